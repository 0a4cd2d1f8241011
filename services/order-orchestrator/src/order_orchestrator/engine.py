"""The interpreter of the saga: a saga and an event in, the changed saga and its messages out.

Pure and total. `transition` is one match over all events; what isn't legal where the saga stands
is `Ignored` (nobody is told) or `Refused` (its sender is), never an exception. The rules:

- Refused: it did not happen and never will; undo starts at the step before. In doubt: nobody
  knows; undo starts at that step itself, whose tombstone refuses a `do` that comes later.
- `PaymentCharged` is the pivot, unless a cancel was recorded before.
- Undos are written in reverse order at once; the outcome waits for all of their replies.
- A due timer sends again what is out, under the same ids. A `do` in doubt is given up only past
  the deadline, and a charge at the gateway past the settlement window as well; after it was sent
  again, and once the replies up to then have been read.

What each move writes stands in `moves.py`, the commands of users and operators in `requests.py`.
"""

from datetime import datetime
from typing import Final, assert_never

from order_orchestrator.domain import (
    FORWARD,
    UNDO_OWED,
    Ending,
    Limits,
    Saga,
    SagaState,
    StepStatus,
)
from order_orchestrator.events import (
    Event,
    Ignored,
    IgnoreReason,
    OperatorCancel,
    Result,
    Retry,
    Settle,
    Start,
    StepDeadLettered,
    TimerFired,
)
from order_orchestrator.moves import (
    At,
    advance,
    cancelled,
    end,
    give_up,
    move_timer,
    record,
    rest,
    send_again,
    stick,
    undo_late,
    with_status,
)
from order_orchestrator.outcomes import refusal_ending
from order_orchestrator.requests import on_cancel, on_operator_cancel, on_pay, on_retry, on_settle
from order_orchestrator.saga import CHARGE, COMMANDS, PIVOT, STEPS, Reply, Wrong
from order_orchestrator.timing import doubt_at, held_until, resend_at
from shared.contracts.coupon import CouponHeld, CouponRefused, CouponRestored, CouponUsed
from shared.contracts.effects import Effect
from shared.contracts.order_parts import OutcomeReason
from shared.contracts.orders import CancelOrder, PayOrder
from shared.contracts.payment import PaymentCharged, PaymentRefunded, PaymentRefused
from shared.contracts.stock import StockCommitted, StockRefused, StockReleased, StockReserved

_FINISHED: Final = frozenset({StepStatus.DONE, StepStatus.SKIPPED})


def transition(saga: Saga, event: Event, now: datetime, limits: Limits) -> Result:
    """What `event` makes of `saga` at `now` (aware, the database's clock).

    Raises nothing for any event; `UnfitSagaError` only where the record contradicts itself, which
    `records.from_record` refuses to read.
    """
    at = At(now, limits, type(event).__name__)
    match event:
        case StockReserved() | CouponHeld() | PaymentCharged() | CouponUsed() | StockCommitted():
            return _on_done(saga, event, at)
        case StockRefused() | CouponRefused() | PaymentRefused():
            return _on_refused(saga, event, at)
        case StockReleased() | CouponRestored() | PaymentRefunded():
            return _on_undone(saga, event, at)
        case TimerFired():
            return _on_timer(saga, event, at)
        case Start():
            return _on_start(saga, at)
        case PayOrder():
            return on_pay(saga, event, at)
        case CancelOrder():
            return on_cancel(saga, event, at)
        case OperatorCancel():
            return on_operator_cancel(saga, event, at)
        case Retry():
            return on_retry(saga, event, at)
        case Settle():
            return on_settle(saga, event, at)
        case StepDeadLettered():
            return _on_dead_letter(saga, event, at)
        case _:
            assert_never(event)


def _on_start(saga: Saga, at: At) -> Result:
    if saga.state is not SagaState.PENDING:
        return Ignored(IgnoreReason.ALREADY_STARTED)
    started = saga._replace(deadline_at=at.now + at.limits.order_deadline)
    return advance(started, saga.steps, None, at)


def _place(saga: Saga, order_id: str, command_id: str, undo: bool) -> int | Ignored:
    """The step that a reply answers."""
    own = saga.order.order_id
    if order_id != own:
        return Ignored(IgnoreReason.OTHER_ORDER)
    place, is_undo = COMMANDS.get(command_id[len(own) + 1 :], (-1, undo))
    if place < 0 or is_undo is not undo or not command_id.startswith(own):
        return Ignored(IgnoreReason.OTHER_STEP)
    return place


def _on_done(saga: Saga, reply: Reply, at: At) -> Result:
    place = _place(saga, reply.order_id, reply.command_id, undo=False)
    if isinstance(place, Ignored):
        return place
    if type(reply) is not STEPS[place].done:
        return Ignored(IgnoreReason.OTHER_STEP)
    match saga.steps[place]:
        case StepStatus.SENT if place >= PIVOT:
            return _complete(saga, place, at)
        case StepStatus.SENT:
            return _go_on(saga, place, reply, at)
        case StepStatus.DONE:
            return Ignored(IgnoreReason.DUPLICATE)
        case StepStatus.UNDOING | StepStatus.UNDOING_LATE | StepStatus.UNDONE:
            return Ignored(IgnoreReason.UNDO_COVERS_IT)
        case StepStatus.REFUSED | StepStatus.ABSENT | StepStatus.SETTLED:
            return _late_success(saga, place, at)
        case StepStatus.NOT_STARTED | StepStatus.SKIPPED:
            return Ignored(IgnoreReason.NEVER_SENT)
        case never:
            assert_never(never)


def _go_on(saga: Saga, place: int, reply: Reply, at: At) -> Result:
    """A step before the pivot is done: the next one, or the pivot, unless something stops it."""
    steps = with_status(saga.steps, place, StepStatus.DONE)
    if saga.cancel is not None:
        return give_up(saga, steps, cancelled(saga.cancel), at)
    learned = STEPS[place].learn(saga, reply)
    if isinstance(learned, Wrong):
        return stick(saga, learned.why, at) if saga.stuck is None else _duplicate()
    if isinstance(learned, OutcomeReason):
        return give_up(saga, steps, Ending(SagaState.REJECTED, learned), at)
    return advance(saga, steps, learned, at)


def _duplicate() -> Ignored:
    return Ignored(IgnoreReason.DUPLICATE)


def _complete(saga: Saga, place: int, at: At) -> Result:
    steps = with_status(saga.steps, place, StepStatus.DONE)
    if _FINISHED.issuperset(steps[PIVOT:]):
        return rest(saga, steps, SagaState.CONFIRMED, at)
    return record(saga, steps, at)


def _late_success(saga: Saga, place: int, at: At) -> Result:
    """Done after all: after it was refused, after its undo found nothing, or after an operator
    settled it. Before the pivot it is undone, once; after it, it is what was wanted."""
    if place >= PIVOT:
        return record(saga, with_status(saga.steps, place, StepStatus.DONE), at, "late")
    return undo_late(saga, place, at)


def _on_refused(saga: Saga, reply: StockRefused | CouponRefused | PaymentRefused, at: At) -> Result:
    place = _place(saga, reply.order_id, reply.command_id, undo=False)
    if isinstance(place, Ignored):
        return place
    if type(reply) is not STEPS[place].refused:
        return Ignored(IgnoreReason.OTHER_STEP)
    match saga.steps[place]:
        case StepStatus.SENT if place >= PIVOT:
            # What a held coupon or a reserved unit can't be. Sending again gives the same verdict.
            why = f"{STEPS[place].name} was refused: {reply.reason.value}"
            return stick(saga, why, at) if saga.stuck is None else _duplicate()
        case StepStatus.SENT:
            ending = refusal_ending(reply) if saga.cancel is None else cancelled(saga.cancel)
            steps = with_status(saga.steps, place, StepStatus.REFUSED)
            return give_up(saga, steps, ending, at, note=reply.reason.value)
        case StepStatus.DONE | StepStatus.REFUSED:
            return _duplicate()
        case (
            StepStatus.UNDOING
            | StepStatus.UNDOING_LATE
            | StepStatus.UNDONE
            | StepStatus.ABSENT
            | StepStatus.SETTLED
        ):
            return Ignored(IgnoreReason.UNDO_COVERS_IT)
        case StepStatus.NOT_STARTED | StepStatus.SKIPPED:
            return Ignored(IgnoreReason.NEVER_SENT)
        case never:
            assert_never(never)


def _on_undone(
    saga: Saga, reply: StockReleased | CouponRestored | PaymentRefunded, at: At
) -> Result:
    place = _place(saga, reply.order_id, reply.command_id, undo=True)
    if isinstance(place, Ignored):
        return place
    if type(reply) is not STEPS[place].undone:
        return Ignored(IgnoreReason.OTHER_STEP)
    status = saga.steps[place]
    if status in (StepStatus.UNDONE, StepStatus.ABSENT):
        return _duplicate()
    if status not in UNDO_OWED and status is not StepStatus.SETTLED:
        return Ignored(IgnoreReason.NEVER_SENT)
    found = reply.effect is Effect.UNDONE or status is StepStatus.UNDOING_LATE
    steps = with_status(saga.steps, place, StepStatus.UNDONE if found else StepStatus.ABSENT)
    if not UNDO_OWED.isdisjoint(steps):
        return record(saga, steps, at)
    if saga.state is SagaState.COMPENSATING and saga.ending is not None:
        return end(saga, steps, saga.ending, at)
    return rest(saga, steps, saga.state, at)


def _on_timer(saga: Saga, event: TimerFired, at: At) -> Result:
    if saga.timer_at is None or at.now < saga.timer_at:
        return Ignored(IgnoreReason.NOT_DUE)
    if saga.stuck is None and saga.state in FORWARD:
        return _on_step_timer(saga, event, at)
    if saga.state is SagaState.AWAITING_PAYMENT:
        return _on_pay_timer(saga, event, at)
    due = resend_at(saga, at.limits)
    if saga.stuck is not None or due is None or at.now < due:
        return move_timer(saga, at)
    if saga.sends >= at.limits.undo_sends:
        return stick(saga, f"unanswered after {saga.sends} sends", at)
    return send_again(saga, at)


def _on_step_timer(saga: Saga, event: TimerFired, at: At) -> Result:
    again, doubt = resend_at(saga, at.limits), doubt_at(saga, at.limits)
    due = again is not None and at.now >= again
    doubtful = doubt is not None and at.now >= doubt
    if saga.cancel is not None and (due or doubtful):
        return give_up(saga, saga.steps, cancelled(saga.cancel), at)
    # `doubt` is at or past both the end of the hold and the last send.
    if doubtful and _answers_were_read(saga, event, at):
        charging = saga.steps[CHARGE] is StepStatus.SENT
        reason = OutcomeReason.PAYMENT_TIMEOUT if charging else OutcomeReason.SAGA_TIMEOUT
        return give_up(saga, saga.steps, Ending(SagaState.REJECTED, reason), at)
    return send_again(saga, at) if due else move_timer(saga, at)


def _answers_were_read(saga: Saga, event: TimerFired, at: At) -> bool:
    """Whether an answer would be known that was there while the order was held, or at the last
    send."""
    read, held = event.replies_read_up_to, held_until(saga, at.limits)
    return all(moment is not None and read >= moment for moment in (held, saga.last_sent_at))


def _on_pay_timer(saga: Saga, event: TimerFired, at: At) -> Result:
    if saga.pay_by is None or at.now < saga.pay_by or event.requests_read_up_to < saga.pay_by:
        return move_timer(saga, at)
    ending = Ending(SagaState.REJECTED, OutcomeReason.PAYMENT_TIMEOUT)
    return give_up(saga, saga.steps, ending, at)


def _on_dead_letter(saga: Saga, event: StepDeadLettered, at: At) -> Result:
    """Nobody will answer that command unless somebody acts."""
    own = saga.order.order_id
    place, undo = COMMANDS.get(event.command_id[len(own) + 1 :], (-1, False))
    if place < 0 or not event.command_id.startswith(own):
        return Ignored(IgnoreReason.OTHER_STEP)
    status = saga.steps[place]
    if not (status in UNDO_OWED if undo else status is StepStatus.SENT):
        return Ignored(IgnoreReason.NOT_OUTSTANDING)
    if saga.stuck is not None:
        return Ignored(IgnoreReason.DUPLICATE)
    if saga.cancel is not None and saga.state in FORWARD:
        return give_up(saga, saga.steps, cancelled(saga.cancel), at)
    return stick(saga, f"{STEPS[place].name} is a dead letter: {event.reason}", at)
