"""What the storefront is asked and what it answers, as its OpenAPI document shows it.

Requests are strict as messages are: `true`, `"3"` and `3.0` are no integers, unknown fields are
ignored, and prices, discounts and states aren't the client's to say.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.contracts.base import (
    MAX_LINES_AS_SENT,
    Currency,
    Id,
    Money,
    Note,
    NullMeans,
    PositiveUnits,
    Price,
    Quantity,
    Record,
    Reference,
    Timestamp,
    Total,
)
from shared.contracts.order_document import OrderDocument
from shared.contracts.order_parts import (
    PAY_FROM_WALLET,
    Line,
    OrderStatus,
    PaymentChoice,
    PayTiming,
)


class AsUser(Record):
    """Somebody's request. `userId` may be left out where a token says who it is."""

    user_id: Id | None = None


class PlaceRequest(AsUser):
    """An order. It waits for its payment unless `pay` is `now`."""

    items: Annotated[
        tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES_AS_SENT, fail_fast=True)
    ]
    coupon_id: Id | None = None
    payment: Annotated[PaymentChoice, NullMeans(PAY_FROM_WALLET)] = PAY_FROM_WALLET
    pay: Annotated[PayTiming, NullMeans(PayTiming.LATER)] = PayTiming.LATER
    expected_total: Money | None = None
    reference: Reference | None = None


class PayRequest(AsUser):
    """A payment; without `payment`, as the order said."""

    payment: PaymentChoice | None = None


class CancelRequest(AsUser):
    """An order is not wanted any more; `reason` is free text."""

    reason: Note | None = None


class CartRequest(AsUser):
    """So many units of a product are in the cart from now on."""

    product_id: Id
    quantity: Quantity


class CartDocument(Record):
    """A cart."""

    user_id: Id
    items: tuple[Line, ...]


class UnderWayDocument(Record):
    """An order that isn't settled yet; all that `OrderDocument` has may be there."""

    order_id: Id
    status: OrderStatus


class CouponDocument(Record):
    """A coupon that was issued; `sequence` is its number in the campaign."""

    coupon_id: Id
    user_id: Id
    sequence: PositiveUnits
    issued_at: Timestamp


class EntryDocument(Record):
    """An entry into a lottery; `seedHash` commits to the draw."""

    coupon_id: Id
    user_id: Id
    seed_hash: str | None = None


class ProductDocument(Record):
    """A product as the catalogue shows it."""

    product_id: Id
    name: str
    price: Price
    currency: Currency
    available: Total


class CatalogueDocument(Record):
    """A page of the catalogue; `next` is what to ask for `after`, null at the end."""

    products: tuple[ProductDocument, ...]
    next: Id | None


class ProblemDocument(Record):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    reason: str | None = None
    """A word out of a closed set."""
    order_id: Id | None = None
    order: OrderDocument | None = None
    """As it is now, where the problem is about one."""


def json_bytes(document: Record) -> bytes:
    """As it goes out: by alias, absent fields left out."""
    content: bytes = document.__pydantic_serializer__.to_json(
        document, by_alias=True, exclude_none=True
    )
    return content
