"""What is said of a payment: its first outcome, again and again, and nothing while nobody knows it.
Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, assert_never

from payment.records import UNDECIDED
from shared.contracts.effects import Effect
from shared.contracts.payment import (
    PaymentCharged,
    PaymentPart,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentSource,
    PaymentState,
)

if TYPE_CHECKING:
    from payment.records import Payment

SagaReply: TypeAlias = PaymentCharged | PaymentRefused | PaymentRefunded


def charge_verdict(payment: Payment, command_id: str) -> PaymentCharged | PaymentRefused | None:
    """The outcome of a charge, whatever became of it later; None while nobody knows. `REFUSED`
    means that no money moved and none will: of a late capture it was said before it turned up."""
    if payment.state in UNDECIDED:
        return None
    charge = payment.charge
    if charge is not None and payment.captured and not payment.is_late:
        parts = (
            (PaymentSource.POINTS, charge.points),
            (PaymentSource(charge.method), charge.rest),
        )
        return PaymentCharged(
            command_id=command_id,
            order_id=payment.order_id,
            currency=charge.currency,
            parts=tuple([PaymentPart(source=name, amount=part) for name, part in parts if part]),
        )
    return PaymentRefused(
        command_id=command_id,
        order_id=payment.order_id,
        reason=payment.refusal or PaymentRefusal.ALREADY_REFUNDED,
    )


def refund_verdict(payment: Payment, command_id: str) -> PaymentRefunded | None:
    """The outcome of a refund; None while money may still have to go back."""
    if payment.is_late:
        return _refunded(payment, command_id, Effect.NOTHING)
    match payment.state:
        case PaymentState.REFUNDED:
            return _refunded(payment, command_id, Effect.UNDONE)
        case PaymentState.REFUSED | PaymentState.TOMBSTONE:
            return _refunded(payment, command_id, Effect.NOTHING)
        case (
            PaymentState.PENDING
            | PaymentState.CANCELLING
            | PaymentState.CAPTURED
            | PaymentState.REFUNDING
        ):
            return None
        case never:
            assert_never(never)


def _refunded(payment: Payment, command_id: str, effect: Effect) -> PaymentRefunded:
    return PaymentRefunded(command_id=command_id, order_id=payment.order_id, effect=effect)
