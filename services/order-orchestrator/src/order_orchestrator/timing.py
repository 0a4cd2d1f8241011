"""When a saga has to be looked at again. Pure: the clock's reading comes in as a value."""

from datetime import datetime, timedelta
from zlib import crc32

from order_orchestrator.domain import (
    FORWARD,
    SENDING,
    UNDO_OWED,
    Limits,
    Saga,
    SagaState,
    StepStatus,
)
from order_orchestrator.saga import CHARGE, STEPS, in_doubt
from shared.contracts.order_parts import PaymentMethod

_SPREAD = 0.5
"""Sagas that were sent together come due over this share of the delay."""
_NEVER_SENT = frozenset({StepStatus.NOT_STARTED, StepStatus.SKIPPED})


def spread(order_id: str, count: int, delay: timedelta) -> timedelta:
    """`delay` and up to half of it more. The jitter comes from the order id and the count, so
    that the same saga gives the same moment."""
    return delay * (1 + _SPREAD * crc32(f"{order_id}:{count}".encode()) / 2**32)


def resend_delay(saga: Saga, limits: Limits) -> timedelta:
    """Doubles with each send up to its limit."""
    doublings = min(max(saga.sends - 1, 0), 16)
    delay = min(limits.resend_after * (1 << doublings), limits.resend_at_most)
    return spread(saga.order.order_id, saga.sends, delay)


def resend_at(saga: Saga, limits: Limits) -> datetime | None:
    """When what is out is sent again. None where nothing is out."""
    if saga.last_sent_at is None:
        return None
    return saga.last_sent_at + resend_delay(saga, limits)


def held_until(saga: Saga, limits: Limits) -> datetime | None:
    """Up to when an unanswered `do` is waited for: the order's deadline, and once a charge went to
    the gateway the settlement window more, in which payment finds out what came of it. None before
    the first step."""
    at_gateway = saga.payment.method is PaymentMethod.GATEWAY
    if saga.deadline_at is None or not at_gateway or saga.steps[CHARGE] in _NEVER_SENT:
        return saga.deadline_at
    return saga.deadline_at + limits.settlement_window


def doubt_at(saga: Saga, limits: Limits) -> datetime | None:
    """When an unanswered `do` may first be given up: no longer held, sent at least twice, and the
    last one with time to be answered. None before it was sent again. Spread, since after an
    outage all deadlines are past."""
    held = held_until(saga, limits)
    if saga.sends < 2 or saga.last_sent_at is None or held is None:
        return None
    pause = spread(saga.order.order_id, saga.sends, limits.resend_after)
    return max(held, saga.last_sent_at + pause)


def wake_at(saga: Saga, limits: Limits) -> datetime | None:
    """The moment of the next thing to do for this saga. None: nothing, until a message comes."""
    if saga.stuck is not None:
        return None
    if saga.state in FORWARD:
        again, doubt = resend_at(saga, limits), doubt_at(saga, limits)
        return again if again is None or doubt is None else min(again, doubt + limits.reading_grace)
    if saga.state is SagaState.AWAITING_PAYMENT:
        return None if saga.pay_by is None else saga.pay_by + limits.reading_grace
    if saga.state is SagaState.COMPLETING or not UNDO_OWED.isdisjoint(saga.steps):
        return resend_at(saga, limits)
    return None


def waits_for_reply(saga: Saga) -> bool:
    """Whether the saga takes one of the places of those that may wait for a reply at once."""
    if saga.stuck is not None:
        return False
    owed_one = saga.state in SENDING or not UNDO_OWED.isdisjoint(saga.steps)
    return owed_one and not hangs_at_gateway(saga)


def hangs_at_gateway(saga: Saga) -> bool:
    """Whether nothing but the charge, or its refund, is unanswered, and was sent again. Such a saga
    takes no place: a gateway that hangs holds up those who pay by it, and nobody else."""
    if saga.payment.method is not PaymentMethod.GATEWAY or saga.sends < 2:
        return False
    return in_doubt(saga).steps == (STEPS[CHARGE].name,)
