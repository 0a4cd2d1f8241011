"""How an order becomes a saga."""

from dataclasses import dataclass
from datetime import datetime

from order_orchestrator.domain import (
    Ending,
    Limits,
    Order,
    Saga,
    SagaState,
)
from order_orchestrator.events import Transition
from order_orchestrator.moves import At, advance, end, written
from order_orchestrator.outcomes import accepted_event
from order_orchestrator.saga import DEFINITION_VERSION, NOTHING_STARTED
from shared.contracts.base import MAX_NOTE_CHARS
from shared.contracts.order_parts import PAY_FROM_WALLET, OutcomeReason, PayTiming
from shared.contracts.orders import FINGERPRINT_VERSION, PlaceOrder


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of an order beside its message."""

    now: datetime
    currency: str
    """The deployment's."""
    fingerprint: bytes
    traceparent: str | None = None


def accept(place: PlaceOrder, arrival: Arrival, limits: Limits, *, start: bool) -> Transition:
    """Stores a new order, and takes its first step at once where `start` says that there is room.

    A `CancelOrder` that came before is best applied to the pending saga, before its `Start`:
    then nothing is sent. After it, it is as safe as any cancel.
    """
    order = Order(
        order_id=place.order_id,
        user_id=place.user_id,
        lines=place.lines(),
        coupon_id=place.coupon_id,
        payment=place.payment,
        pay=place.pay,
        expected_total=place.expected_total,
        reference=place.reference,
        currency=arrival.currency,
        fingerprint=arrival.fingerprint,
        fingerprint_version=FINGERPRINT_VERSION,
        traceparent=arrival.traceparent,
        accepted_at=arrival.now,
    )
    at = At(arrival.now, limits, "PlaceOrder")
    if not start:
        stored = _new(order, version=1)
        return written(stored, at, event=accepted_event(stored, at.now))
    saga = _new(order, version=0, deadline_at=at.now + limits.order_deadline)
    first = advance(saga, saga.steps, None, at)
    event = accepted_event(first.saga, at.now)
    return Transition(first.saga, first.history, first.commands, event)


def reject_unreadable(
    order_id: str, user_id: str | None, detail: str, arrival: Arrival, limits: Limits
) -> Transition:
    """Stores the id of a new `PlaceOrder` that couldn't be read as rejected: `invalid_command`.

    `detail` says which field, and is told as the outcome's note.
    """
    order = Order(
        order_id=order_id,
        user_id=user_id or "",
        lines=(),
        coupon_id=None,
        payment=PAY_FROM_WALLET,
        pay=PayTiming.NOW,
        expected_total=None,
        reference=None,
        currency=arrival.currency,
        fingerprint=arrival.fingerprint,
        fingerprint_version=FINGERPRINT_VERSION,
        traceparent=arrival.traceparent,
        accepted_at=arrival.now,
    )
    ending = Ending(SagaState.REJECTED, OutcomeReason.INVALID_COMMAND, note=detail[:MAX_NOTE_CHARS])
    return end(
        _new(order, version=0), NOTHING_STARTED, ending, At(arrival.now, limits, "PlaceOrder")
    )


def _new(order: Order, *, version: int, deadline_at: datetime | None = None) -> Saga:
    """A saga that took no step. Version 0: the move that follows makes it the first."""
    return Saga(
        order=order,
        definition_version=DEFINITION_VERSION,
        state=SagaState.PENDING,
        version=version,
        steps=NOTHING_STARTED,
        payment=order.payment,
        deadline_at=deadline_at,
    )
