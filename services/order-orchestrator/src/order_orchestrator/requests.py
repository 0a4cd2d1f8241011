"""What users and operators ask of a saga that is stored already.

Another user's order looks like one that isn't there.
"""

from typing import Final, assert_never

from order_orchestrator.domain import (
    FORWARD,
    UNDO_OWED,
    Cancel,
    CancelledBy,
    Ending,
    Saga,
    SagaState,
    StepStatus,
)
from order_orchestrator.events import (
    Ignored,
    IgnoreReason,
    OperatorCancel,
    OperatorRefusal,
    Refused,
    Result,
    Retry,
    Settle,
)
from order_orchestrator.moves import (
    At,
    advance,
    cancelled,
    end,
    give_up,
    outstanding,
    rest,
    timer_after_sending,
    written,
)
from shared.contracts.base import MAX_NOTE_CHARS
from shared.contracts.order_parts import OutcomeReason, PayTiming
from shared.contracts.orders import CancelOrder, PayOrder
from shared.contracts.refusals import CommandRefusal

_UNKNOWN: Final = Refused(CommandRefusal.UNKNOWN_ORDER, "there is no such order")
_NOT_STUCK: Final = Refused(OperatorRefusal.NOT_STUCK, "the saga is not stuck")


def on_pay(saga: Saga, event: PayOrder, at: At) -> Result:
    """The first `PayOrder` counts, also one that comes while the steps before it still run."""
    if event.user_id != saga.order.user_id:
        return _UNKNOWN
    if event.command_id == saga.pay_command_id:
        return Ignored(IgnoreReason.DUPLICATE)
    if saga.order.pay is PayTiming.NOW:
        return Refused(CommandRefusal.NOT_AWAITING_PAYMENT, "the order is paid at once")
    if saga.pay_command_id is not None:
        return Refused(CommandRefusal.ALREADY_PAID, "another PayOrder came first")
    paid = saga._replace(payment=event.payment or saga.payment, pay_command_id=event.command_id)
    match saga.state:
        case SagaState.AWAITING_PAYMENT:
            # The charge gets the time that a step has, however long the payment was awaited.
            timed = paid._replace(deadline_at=at.now + at.limits.order_deadline)
            return advance(timed, timed.steps, timed.price, at)
        case SagaState.PENDING | SagaState.RESERVING | SagaState.HOLDING if saga.cancel is None:
            return written(paid._replace(version=saga.version + 1), at, note="recorded")
        case _:
            return Refused(CommandRefusal.TOO_LATE, f"the order is {saga.state.lower()}")


def on_cancel(saga: Saga, event: CancelOrder, at: At) -> Result:
    if event.user_id != saga.order.user_id:
        return _UNKNOWN
    return _cancel(saga, Cancel(CancelledBy.USER, event.reason), at)


def on_operator_cancel(saga: Saga, event: OperatorCancel, at: At) -> Result:
    cancel = Cancel(CancelledBy.OPERATOR, event.note and event.note[:MAX_NOTE_CHARS])
    return _cancel(saga, cancel, at, by=_audit(event.operator, cancel.note))


def _cancel(saga: Saga, cancel: Cancel, at: At, by: str | None = None) -> Result:
    """At once where no reply is owed, else at the next reply or timer."""
    match saga.state:
        case SagaState.PENDING | SagaState.AWAITING_PAYMENT:
            return give_up(saga, saga.steps, cancelled(cancel), at, by)
        case SagaState.RESERVING | SagaState.HOLDING | SagaState.CHARGING:
            if saga.cancel is not None:
                return Ignored(IgnoreReason.ALREADY_CANCELLED)
            if saga.stuck is not None:  # no timer will come, and nobody knows of a reply
                return give_up(saga, saga.steps, cancelled(cancel), at, by)
            recorded = saga._replace(version=saga.version + 1, cancel=cancel)
            return written(recorded, at, note=by or "recorded")
        case SagaState.COMPENSATING | SagaState.CANCELLED if _will_be_cancelled(saga):
            return Ignored(IgnoreReason.ALREADY_CANCELLED)
        case (
            SagaState.COMPENSATING
            | SagaState.COMPLETING
            | SagaState.CONFIRMED
            | SagaState.REJECTED
            | SagaState.CANCELLED
        ):
            return Refused(CommandRefusal.TOO_LATE, f"the order is {saga.state.lower()}")
        case never:
            assert_never(never)


def _will_be_cancelled(saga: Saga) -> bool:
    return saga.ending is not None and saga.ending.state is SagaState.CANCELLED


def on_retry(saga: Saga, event: Retry, at: At) -> Result:
    """All that is out goes out again, as often as if it were new; a step before the pivot gets a
    new deadline."""
    if saga.stuck is None:
        return _NOT_STUCK
    deadline_at = saga.deadline_at
    if saga.state in FORWARD:
        deadline_at = at.now + at.limits.order_deadline
    changed = saga._replace(
        version=saga.version + 1,
        stuck=None,
        sends=1,
        last_sent_at=at.now,
        deadline_at=deadline_at,
        timer_at=timer_after_sending(saga, at),
    )
    note = _audit(event.operator, event.note)
    return written(changed, at, commands=outstanding(changed), note=note)


def on_settle(saga: Saga, event: Settle, at: At) -> Result:
    """Ends what can't be ended otherwise, by an operator's word.

    Undos that were sent are written off; before the pivot, steps whose undo was never sent are
    undone first, so that nothing is written off unseen. An outcome that was told stays.
    """
    if saga.stuck is None:
        return _NOT_STUCK
    note = _audit(event.operator, event.note)
    if saga.told is not None:
        told = saga.ending.state if saga.ending else SagaState.CONFIRMED
        if event.outcome is not told:
            return _impossible(event, f"the world was told {told}")
        return rest(saga, _written_off(saga), event.outcome, at, note)
    if event.outcome not in (SagaState.REJECTED, SagaState.CANCELLED):
        return _impossible(event, "only an order past its pivot can be confirmed")
    ending = Ending(
        event.outcome,
        OutcomeReason.SETTLED_BY_OPERATOR,
        note=event.note[:MAX_NOTE_CHARS],
    )
    if saga.state in FORWARD:
        return give_up(saga, saga.steps, ending, at, note)
    return end(saga, _written_off(saga), ending, at, note)


def settleable(saga: Saga) -> tuple[SagaState, ...]:
    """The outcomes that an operator may settle this saga with; none where it isn't stuck."""
    if saga.stuck is None:
        return ()
    if saga.told is not None:
        return (saga.ending.state if saga.ending else SagaState.CONFIRMED,)
    return (SagaState.REJECTED, SagaState.CANCELLED)


def _written_off(saga: Saga) -> tuple[StepStatus, ...]:
    return tuple(
        [
            StepStatus.SETTLED if status is StepStatus.SENT or status in UNDO_OWED else status
            for status in saga.steps
        ]
    )


def _impossible(event: Settle, why: str) -> Refused:
    return Refused(OperatorRefusal.OUTCOME_IMPOSSIBLE, f"not {event.outcome}: {why}")


def _audit(operator: str, note: str | None) -> str:
    return f"by {operator}: {note}" if note else f"by {operator}"
