"""An order as it is at a moment: what the orchestrator answers to the services that ask, and the
storefront to users."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final

from pydantic import Field

from shared.contracts.base import (
    Currency,
    Id,
    Message,
    Money,
    Note,
    Record,
    Reference,
    Timestamp,
    Version,
)
from shared.contracts.order_parts import (
    OrderStatus,
    OutcomeDetail,
    OutcomeReason,
    PricedLine,
)


class OrderDocument(Record):
    """An order as far as it is known; `version` rises with each change."""

    order_id: Id
    user_id: Id | None = None
    status: OrderStatus
    version: Version
    items: tuple[PricedLine, ...] | None = None
    """Where the prices are known."""
    total: Money | None = None
    discount: Money | None = None
    currency: Currency | None = None
    pay_by: Timestamp | None = None
    reason: OutcomeReason | None = None
    details: tuple[OutcomeDetail, ...] | None = None
    note: Note | None = None
    reference: Reference | None = None


class StoredOrder(OrderDocument):
    """An order as the orchestrator stores it."""

    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Of its `PlaceOrder`: who sends that again with other content is told by it."""

    def public(self) -> OrderDocument:
        """What users may know of it."""
        return _with_fields_of(self)


class StoredOrders(Record):
    """Those of the orders asked for that are there."""

    orders: tuple[StoredOrder, ...]


ORDERS_AT_MOST: Final = 100
"""Asked for at once."""


def document_of(event: Message) -> OrderDocument:
    """The order as an event of it tells."""
    return _with_fields_of(event)


@cache
def _fields_of(known: type[Record]) -> tuple[str, ...]:
    """Those that it has in common with the document."""
    return tuple(name for name in OrderDocument.model_fields if name in known.model_fields)


def _with_fields_of(known: Record) -> OrderDocument:
    """What is taken is valid already."""
    fields: dict[str, Any] = {name: getattr(known, name) for name in _fields_of(type(known))}
    return OrderDocument.model_construct(**fields)
