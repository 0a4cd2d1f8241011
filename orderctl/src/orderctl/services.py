"""The services of a deployment, as far as operating them goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """A service's name, the package that holds its migrations and invariants, and its schema."""

    name: str
    package: str
    schema: str


SERVICES: Final = (
    ServiceFacts("stock", "stock", "stock"),
    ServiceFacts("coupon", "coupon", "coupon"),
    ServiceFacts("payment", "payment", "payment"),
    ServiceFacts("order-orchestrator", "order_orchestrator", "orders"),
)


def role_dsn(admin_url: str, role: str, password: str) -> str:
    """The address that `role` uses, on the server and database of `admin_url`."""
    parts = urlsplit(admin_url)
    user = quote(role) + (f":{quote(password)}" if password else "")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}"))
