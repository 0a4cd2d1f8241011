"""The services of a deployment, as data: whoever needs them all reads them here."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What is known of a service from outside."""

    name: str
    package: str
    """Brings its program (`main`), migrations and invariants."""
    schema: str
    """The role that it connects as has the same name."""


SERVICES: Final = (
    ServiceFacts("stock", "stock", "stock"),
    ServiceFacts("coupon", "coupon", "coupon"),
    ServiceFacts("payment", "payment", "payment"),
    ServiceFacts("order-orchestrator", "order_orchestrator", "orders"),
)

SCHEMAS: Final[Mapping[str, str]] = MappingProxyType(
    {service.name: service.schema for service in SERVICES}
)
"""Name of a service -> its schema."""
