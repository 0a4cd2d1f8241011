"""What the messages of orders are made of, and the closed lists that order messages use."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

from shared.contracts.base import (
    MAX_LINES,
    MAX_QUANTITY,
    Id,
    Money,
    NullMeans,
    Price,
    Quantity,
    Record,
    Total,
)
from shared.contracts.coupon import CouponRefusal


class PaymentMethod(StrEnum):
    WALLET = "wallet"
    GATEWAY = "gateway"


class PayTiming(StrEnum):
    NOW = "now"
    LATER = "later"


class OrderStatus(StrEnum):
    PENDING = "PENDING"
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    COMPENSATING = "COMPENSATING"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


class OutcomeReason(StrEnum):
    """Why an order was rejected or cancelled. Closed."""

    OUT_OF_STOCK = "out_of_stock"
    UNKNOWN_PRODUCT = "unknown_product"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    COUPON_REFUSED = "coupon_refused"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    PAYMENT_DECLINED = "payment_declined"
    PRICE_CHANGED = "price_changed"
    CURRENCY_MISMATCH = "currency_mismatch"
    PAYMENT_TIMEOUT = "payment_timeout"
    SAGA_TIMEOUT = "saga_timeout"
    CANCELLED_BY_USER = "cancelled_by_user"
    CANCELLED_BY_OPERATOR = "cancelled_by_operator"
    SETTLED_BY_OPERATOR = "settled_by_operator"
    INVALID_COMMAND = "invalid_command"


class Line(Record):
    product_id: Id
    quantity: Quantity


class PricedLine(Record):
    product_id: Id
    quantity: Quantity
    unit_price: Price


class PaymentChoice(Record):
    """How to pay. `points` are part of the total; one point is one minor unit."""

    method: Annotated[PaymentMethod, NullMeans(PaymentMethod.WALLET)] = PaymentMethod.WALLET
    points: Annotated[Money, NullMeans(0)] = 0


PAY_FROM_WALLET: Final = PaymentChoice()


def sum_lines(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The same wish with each product once, sorted by product id.

    Raises `ValueError` where a product's sum or the number of products passes its limit.
    """
    if len(lines) == 1:
        return (lines[0],)
    quantities: dict[str, int] = {}
    for line in lines:
        quantities[line.product_id] = quantities.get(line.product_id, 0) + line.quantity
    if len(quantities) > MAX_LINES:
        raise ValueError(f"{len(quantities)} products, at most {MAX_LINES} fit into one order")
    for product_id, quantity in quantities.items():
        if quantity > MAX_QUANTITY:
            raise ValueError(
                f"{quantity} units of {product_id} in sum, at most {MAX_QUANTITY} are allowed"
            )
    return tuple(
        Line(product_id=product_id, quantity=quantities[product_id])
        for product_id in sorted(quantities)
    )


class LineDetail(Record):
    """A line that couldn't be served; `available` is 0 for an unknown product."""

    product_id: Id
    requested: Quantity
    available: Total


class CouponDetail(Record):
    coupon_reason: CouponRefusal


OutcomeDetail = LineDetail | CouponDetail
