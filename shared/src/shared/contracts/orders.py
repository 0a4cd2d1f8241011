"""Contracts of the order orchestrator: `orders.commands.v1` and `orders.events.v1`."""

from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from shared.contracts.base import (
    MAX_ID_CHARS,
    MAX_LINES_AS_SENT,
    Currency,
    DerivedId,
    Id,
    Message,
    Money,
    Note,
    NullMeans,
    Reference,
    Timestamp,
    Version,
    default_from,
    digest,
)
from shared.contracts.order_parts import (
    PAY_FROM_WALLET,
    CouponDetail,
    Line,
    LineDetail,
    OrderStatus,
    OutcomeDetail,
    OutcomeReason,
    PaymentChoice,
    PaymentMethod,
    PayTiming,
    PricedLine,
    sum_lines,
)
from shared.contracts.refusals import CommandRefusal, CommandRefused

__all__ = [
    "FINGERPRINT_VERSION",
    "CancelOrder",
    "CommandRefusal",
    "CommandRefused",
    "CouponDetail",
    "Line",
    "LineDetail",
    "OrderAccepted",
    "OrderAwaitingPayment",
    "OrderCancelled",
    "OrderConfirmed",
    "OrderRejected",
    "OrderStatus",
    "OutcomeDetail",
    "OutcomeReason",
    "PayOrder",
    "PayTiming",
    "PaymentChoice",
    "PaymentMethod",
    "PlaceOrder",
    "PricedLine",
    "sum_lines",
]

FINGERPRINT_VERSION: Final = 1
"""Stored beside each order's fingerprint. Raise it when `PlaceOrder.fingerprint` changes."""


class PlaceOrder(Message):
    """A wish to buy. Only `type`, `orderId`, `userId` and `items` are required.

    Lines of one product are summed; at most 100 products, 10,000 units of each. `couponId` names
    the campaign. `expectedTotal` is after discount, points included. `reference` is echoed in
    every event and means nothing here.
    """

    identity = "order_id"
    type: Literal["PlaceOrder"] = "PlaceOrder"
    order_id: Id
    user_id: Id
    items: Annotated[
        tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES_AS_SENT, fail_fast=True)
    ]
    coupon_id: Id | None = None
    payment: Annotated[PaymentChoice, NullMeans(PAY_FROM_WALLET)] = PAY_FROM_WALLET
    pay: Annotated[PayTiming, NullMeans(PayTiming.NOW)] = PayTiming.NOW
    expected_total: Money | None = None
    reference: Reference | None = None

    @field_validator("items")
    @classmethod
    def _sum_within_limits(cls, items: tuple[Line, ...]) -> tuple[Line, ...]:
        sum_lines(items)
        return items

    def lines(self) -> tuple[Line, ...]:
        """The items with each product once, sorted by product id."""
        return sum_lines(self.items)

    def fingerprint(self) -> bytes:
        """Version 1: user, summed lines, coupon, method, points, pay, expected total.

        `reference` is left out: it changes nothing about the order, and a sender that sends
        again may well write another one. The first one given is the one that is echoed.
        """
        lines = ",".join([f"{line.product_id}={line.quantity}" for line in self.lines()])
        total = "" if self.expected_total is None else self.expected_total
        return digest(
            f"PlaceOrder/1|{self.user_id}|{lines}|{self.coupon_id or ''}|{self.payment.method}"
            f"|{self.payment.points}|{self.pay}|{total}".encode()
        )


def _own_command_id(command_id: str | None, info: ValidationInfo, suffix: str) -> str:
    default = f"{info.data.get('order_id')}:{suffix}"
    if command_id is None:
        return default
    if ":" in command_id and command_id != default:
        raise ValueError(f"only the default '{{orderId}}:{suffix}' may carry a colon")
    if len(command_id) > MAX_ID_CHARS and command_id != default:
        raise ValueError(f"at most {MAX_ID_CHARS} characters")
    return command_id


class PayOrder(Message):
    """Pays an order that was placed with `pay: later`. Without `payment`, as the order said."""

    default_command = "pay"
    type: Literal["PayOrder"] = "PayOrder"
    order_id: Id
    user_id: Id
    command_id: Annotated[DerivedId, NullMeans(None)] = Field(
        default_factory=default_from("order_id", "pay")
    )
    payment: PaymentChoice | None = None

    @field_validator("command_id")
    @classmethod
    def _default_command_id(cls, command_id: str | None, info: ValidationInfo) -> str:
        return _own_command_id(command_id, info, "pay")


class CancelOrder(Message):
    """`reason` is free text of the sender's, shown as the outcome's `note`."""

    default_command = "cancel"
    type: Literal["CancelOrder"] = "CancelOrder"
    order_id: Id
    user_id: Id
    command_id: Annotated[DerivedId, NullMeans(None)] = Field(
        default_factory=default_from("order_id", "cancel")
    )
    reason: Note | None = None

    @field_validator("command_id")
    @classmethod
    def _default_command_id(cls, command_id: str | None, info: ValidationInfo) -> str:
        return _own_command_id(command_id, info, "cancel")


class OrderEvent(Message):
    """What all order events carry. `eventId` is `{orderId}:{type}`: the same event, however often
    it is sent, has the same id. `version` is the order's and rises with each change."""

    identity = "event_id"
    order_id: Id
    version: Version
    at: Timestamp
    reference: Reference | None = None


class OrderAccepted(OrderEvent):
    type: Literal["OrderAccepted"] = "OrderAccepted"
    user_id: Id
    status: Literal[OrderStatus.PENDING] = OrderStatus.PENDING
    event_id: DerivedId = Field(default_factory=default_from("order_id", "OrderAccepted"))


class OrderAwaitingPayment(OrderEvent):
    """Units and coupon are held until `payBy`."""

    type: Literal["OrderAwaitingPayment"] = "OrderAwaitingPayment"
    user_id: Id
    status: Literal[OrderStatus.AWAITING_PAYMENT] = OrderStatus.AWAITING_PAYMENT
    items: tuple[PricedLine, ...]
    total: Money
    discount: Money
    currency: Currency
    pay_by: Timestamp
    event_id: DerivedId = Field(default_factory=default_from("order_id", "OrderAwaitingPayment"))


class OrderConfirmed(OrderEvent):
    """Outcome: paid, and nothing undoes it. `total` is after `discount`, points included."""

    type: Literal["OrderConfirmed"] = "OrderConfirmed"
    user_id: Id
    status: Literal[OrderStatus.CONFIRMED] = OrderStatus.CONFIRMED
    items: tuple[PricedLine, ...]
    total: Money
    discount: Money
    currency: Currency
    event_id: DerivedId = Field(default_factory=default_from("order_id", "OrderConfirmed"))


class OrderRejected(OrderEvent):
    """Outcome: the order can't be served, and all that was done for it is undone.

    `userId` is absent only beside `invalid_command`, where it couldn't be read.
    """

    type: Literal["OrderRejected"] = "OrderRejected"
    user_id: Id | None = None
    status: Literal[OrderStatus.REJECTED] = OrderStatus.REJECTED
    reason: OutcomeReason
    details: Annotated[tuple[OutcomeDetail, ...], NullMeans(())] = ()
    note: Note | None = None
    event_id: DerivedId = Field(default_factory=default_from("order_id", "OrderRejected"))


class OrderCancelled(OrderEvent):
    """Outcome: its user or an operator ended the order, and all that was done is undone."""

    type: Literal["OrderCancelled"] = "OrderCancelled"
    user_id: Id
    status: Literal[OrderStatus.CANCELLED] = OrderStatus.CANCELLED
    reason: OutcomeReason
    details: Annotated[tuple[OutcomeDetail, ...], NullMeans(())] = ()
    note: Note | None = None
    event_id: DerivedId = Field(default_factory=default_from("order_id", "OrderCancelled"))
