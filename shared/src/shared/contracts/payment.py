"""Contracts of the payment service: commands and replies of the saga, and the wallet's."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.base import (
    Currency,
    DerivedId,
    Id,
    Message,
    Money,
    PositiveMoney,
    Record,
    Total,
)
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod


class PaymentSource(StrEnum):
    """Where the parts of a charge were taken from."""

    WALLET = "wallet"
    POINTS = "points"
    GATEWAY = "gateway"


class PaymentRefusal(StrEnum):
    """Why no money moved and none will. Closed.

    The order's outcome takes `insufficient_balance`, `payment_declined`, `currency_mismatch` and
    `temporarily_unavailable` under the same names, and `method_unavailable` as
    `payment_declined`. `already_refunded` never becomes an outcome: the saga's undo came before.
    """

    INSUFFICIENT_BALANCE = "insufficient_balance"
    """Of money or of points; also said of a user without a wallet."""
    PAYMENT_DECLINED = "payment_declined"
    CURRENCY_MISMATCH = "currency_mismatch"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    METHOD_UNAVAILABLE = "method_unavailable"
    """This deployment takes no payments by that method, or no points."""
    ALREADY_REFUNDED = "already_refunded"
    """`RefundPayment` came first and left its tombstone."""


class PaymentState(StrEnum):
    """What became of an order's payment: the recovery point of its idempotency key."""

    PENDING = "PENDING"
    """The gateway is asked, and its outcome isn't known. Points are held."""
    CANCELLING = "CANCELLING"
    """As PENDING, but the refund was asked for meanwhile: no charge is sent any more."""
    CAPTURED = "CAPTURED"
    REFUNDING = "REFUNDING"
    """The gateway has still to give its part back; the others follow with it."""
    REFUNDED = "REFUNDED"
    REFUSED = "REFUSED"
    TOMBSTONE = "TOMBSTONE"
    """The refund came before any capture: a charge that comes later is refused, and a capture that
    turns up later is refunded."""


class CallKind(StrEnum):
    """What the gateway is asked for."""

    CHARGE = "charge"
    REFUND = "refund"


class CallState(StrEnum):
    """What is known of a call."""

    WAITING = "WAITING"
    INTENDED = "INTENDED"
    """Nothing was sent, or nothing of it was taken."""
    UNKNOWN = "UNKNOWN"
    """It was sent, and nobody knows what came of it."""
    ABSENT = "ABSENT"
    """The gateway doesn't know the key. That is no promise: it may turn up later."""
    WATCHED = "WATCHED"
    """As ABSENT, and its order was told so: it is asked for at times, and never sent."""
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    VOID = "VOID"
    QUARANTINED = "QUARANTINED"


class ChargePayment(Message):
    """`amount` includes `points`, which are taken first. A total of 0 is never charged."""

    type: Literal["ChargePayment"] = "ChargePayment"
    command_id: DerivedId
    order_id: Id
    user_id: Id
    amount: PositiveMoney
    currency: Currency
    method: PaymentMethod
    points: Money


class RefundPayment(Message):
    type: Literal["RefundPayment"] = "RefundPayment"
    command_id: DerivedId
    order_id: Id


class PaymentPart(Record):
    source: PaymentSource
    amount: PositiveMoney


class PaymentCharged(Message):
    """The sum of `parts` is the command's amount."""

    type: Literal["PaymentCharged"] = "PaymentCharged"
    command_id: DerivedId
    order_id: Id
    currency: Currency
    parts: Annotated[tuple[PaymentPart, ...], Field(min_length=1, max_length=len(PaymentSource))]


class PaymentRefused(Message):
    """No money moved and none will."""

    type: Literal["PaymentRefused"] = "PaymentRefused"
    command_id: DerivedId
    order_id: Id
    reason: PaymentRefusal


class PaymentRefunded(Message):
    type: Literal["PaymentRefunded"] = "PaymentRefunded"
    command_id: DerivedId
    order_id: Id
    effect: Effect


class TopUpWallet(Message):
    type: Literal["TopUpWallet"] = "TopUpWallet"
    command_id: Id
    user_id: Id
    amount: PositiveMoney
    currency: Currency


class GrantPoints(Message):
    """One point is one minor unit of the currency."""

    type: Literal["GrantPoints"] = "GrantPoints"
    command_id: Id
    user_id: Id
    amount: PositiveMoney
    currency: Currency


class WalletToppedUp(Message):
    """`balance` is after the command."""

    type: Literal["WalletToppedUp"] = "WalletToppedUp"
    command_id: Id
    user_id: Id
    amount: PositiveMoney
    currency: Currency
    balance: Total


class PointsGranted(Message):
    """`balance` is of points, after the command."""

    type: Literal["PointsGranted"] = "PointsGranted"
    command_id: Id
    user_id: Id
    amount: PositiveMoney
    currency: Currency
    balance: Total
