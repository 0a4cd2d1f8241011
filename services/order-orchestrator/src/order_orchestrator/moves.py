"""The moves a saga can make. `engine.py` decides which one; here is what each of them writes.

A move takes the saga as it was and the step statuses as they shall be, and raises the version by
one. It is the only place where commands and events of a saga are built.
"""

from datetime import datetime
from typing import Final, NamedTuple

from order_orchestrator.domain import (
    MAY_BE_DONE,
    UNDO_OWED,
    Cancel,
    CancelledBy,
    Ending,
    Limits,
    Price,
    Saga,
    SagaState,
    StepStatus,
    Stuck,
    Told,
)
from order_orchestrator.events import HistoryEntry, Transition
from order_orchestrator.outcomes import awaiting_payment_event, outcome_event
from order_orchestrator.saga import CHARGE, PIVOT, STEPS, UnfitSagaError
from order_orchestrator.timing import spread, wake_at
from shared.contracts.base import MAX_NOTE_CHARS, Message
from shared.contracts.order_parts import OutcomeReason, PayTiming

Steps = tuple[StepStatus, ...]

_CANCEL_REASONS: Final = {
    CancelledBy.USER: OutcomeReason.CANCELLED_BY_USER,
    CancelledBy.OPERATOR: OutcomeReason.CANCELLED_BY_OPERATOR,
}


class At(NamedTuple):
    """The circumstances of a transition: when, under which limits, and the event's name."""

    now: datetime
    limits: Limits
    cause: str


def with_status(steps: Steps, place: int, status: StepStatus) -> Steps:
    return (*steps[:place], status, *steps[place + 1 :])


def written(
    changed: Saga,
    at: At,
    *,
    commands: tuple[Message, ...] = (),
    event: Message | None = None,
    note: str | None = None,
) -> Transition:
    """Ends every move: the changed saga and its line of history."""
    entry = HistoryEntry(changed.version, changed.state, at.cause, at.now, note)
    return Transition(changed, entry, commands, event)


def timer_after_sending(saga: Saga, at: At) -> datetime:
    """`timer_at` once commands went out for the first time.

    The column is indexed, and a row whose indexed columns rest is cheaper to update. So it stays
    as long as it is early enough: a timer that fires early is only moved. One that has fired is
    set anew.
    """
    timer, wake = saga.timer_at, at.now + spread(saga.order.order_id, 1, at.limits.resend_after)
    return timer if timer is not None and at.now < timer <= wake else wake


def advance(
    saga: Saga, steps: Steps, price: Price | None, at: At, note: str | None = None
) -> Transition:
    """Takes the next step before the pivot, or passes it."""
    order = saga.order
    for place in range(PIVOT):
        if steps[place] is not StepStatus.NOT_STARTED:
            continue
        if place == CHARGE:
            expected = order.expected_total
            if expected is not None and price is not None and expected != price.total:
                ending = Ending(SagaState.REJECTED, OutcomeReason.PRICE_CHANGED)
                return give_up(saga._replace(price=price), steps, ending, at)
            if order.pay is PayTiming.LATER and saga.pay_command_id is None:
                return _await_payment(saga, steps, price, at)
        if not STEPS[place].skipped(order, price):
            return _send(saga, steps, price, place, at, note)
        steps = with_status(steps, place, StepStatus.SKIPPED)
    return _confirm(saga, steps, price, at, note)


def _send(
    saga: Saga, steps: Steps, price: Price | None, place: int, at: At, note: str | None
) -> Transition:
    step = STEPS[place]
    changed = saga._replace(
        version=saga.version + 1,
        state=step.state,
        steps=with_status(steps, place, StepStatus.SENT),
        price=price,
        stuck=None,
        sends=1,
        last_sent_at=at.now,
        timer_at=timer_after_sending(saga, at),
    )
    return written(changed, at, commands=(step.do(changed),), note=note)


def _await_payment(saga: Saga, steps: Steps, price: Price | None, at: At) -> Transition:
    pay_by, timer = at.now + at.limits.pay_deadline, saga.timer_at
    wake = pay_by + at.limits.reading_grace
    changed = saga._replace(
        version=saga.version + 1,
        state=SagaState.AWAITING_PAYMENT,
        steps=steps,
        price=price,
        stuck=None,
        sends=0,
        last_sent_at=None,
        pay_by=pay_by,
        timer_at=wake if timer is None else min(timer, wake),
    )
    return written(changed, at, event=awaiting_payment_event(changed, at.now))


def _confirm(saga: Saga, steps: Steps, price: Price | None, at: At, note: str | None) -> Transition:
    """The pivot: the outcome and all that follows from it, in one transaction."""
    places = []
    for place in range(PIVOT, len(STEPS)):
        skipped = STEPS[place].skipped(saga.order, price)
        steps = with_status(steps, place, StepStatus.SKIPPED if skipped else StepStatus.SENT)
        if not skipped:
            places.append(place)
    version = saga.version + 1
    changed = saga._replace(
        version=version,
        state=SagaState.COMPLETING,
        steps=steps,
        price=price,
        stuck=None,
        sends=1,
        last_sent_at=at.now,
        timer_at=timer_after_sending(saga, at),
        told=Told(version, at.now),
    )
    commands = tuple([STEPS[place].do(changed) for place in places])
    return written(changed, at, commands=commands, event=outcome_event(changed), note=note)


def give_up(
    saga: Saga, steps: Steps, ending: Ending, at: At, note: str | None = None
) -> Transition:
    """Writes the undo of every step that is done or in doubt, in reverse order.

    A step that was refused is neither, so its undo is not written.
    """
    places = [place for place in reversed(range(PIVOT)) if steps[place] in MAY_BE_DONE]
    if not places:
        return end(saga, steps, ending, at, note)
    for place in places:
        steps = with_status(steps, place, StepStatus.UNDOING)
    changed = saga._replace(
        version=saga.version + 1,
        state=SagaState.COMPENSATING,
        steps=steps,
        ending=ending,
        stuck=None,
        sends=1,
        last_sent_at=at.now,
        timer_at=timer_after_sending(saga, at),
    )
    commands = tuple([undo_of(changed, place) for place in places])
    return written(changed, at, commands=commands, note=note or ending.reason.value)


def undo_late(saga: Saga, place: int, at: At) -> Transition:
    """A step that was written off turned out to be done: its undo goes out, once."""
    changed = saga._replace(
        version=saga.version + 1,
        steps=with_status(saga.steps, place, StepStatus.UNDOING_LATE),
        sends=1,
        last_sent_at=at.now,
        timer_at=timer_after_sending(saga, at) if saga.stuck is None else None,
    )
    return written(changed, at, commands=(undo_of(changed, place),), note="done late, undone")


def end(saga: Saga, steps: Steps, ending: Ending, at: At, note: str | None = None) -> Transition:
    """Tells the outcome of a saga that was given up."""
    version = saga.version + 1
    changed = saga._replace(
        version=version,
        state=ending.state,
        steps=steps,
        ending=ending,
        told=Told(version, at.now),
        stuck=None,
        sends=0,
        last_sent_at=None,
        timer_at=None,
    )
    event = outcome_event(changed)
    return written(changed, at, event=event, note=note or ending.reason.value)


def rest(saga: Saga, steps: Steps, state: SagaState, at: At, note: str | None = None) -> Transition:
    """Ends a saga whose outcome was told before: nothing is out any more."""
    changed = saga._replace(
        version=saga.version + 1,
        state=state,
        steps=steps,
        stuck=None,
        sends=0,
        last_sent_at=None,
        timer_at=None,
    )
    return written(changed, at, note=note)


def record(saga: Saga, steps: Steps, at: At, note: str | None = None) -> Transition:
    """Writes step statuses down and changes nothing else."""
    return written(saga._replace(version=saga.version + 1, steps=steps), at, note=note)


def stick(saga: Saga, why: str, at: At) -> Transition:
    """Needs an operator: the timer rests, what is owed stays visible."""
    stuck = Stuck(at.now, why)
    changed = saga._replace(version=saga.version + 1, stuck=stuck, timer_at=None)
    return written(changed, at, note=f"stuck: {why}")


def send_again(saga: Saga, at: At) -> Transition:
    """The same commands under the same ids."""
    changed = saga._replace(version=saga.version + 1, sends=saga.sends + 1, last_sent_at=at.now)
    changed = changed._replace(timer_at=wake_at(changed, at.limits))
    note = f"sent again, {changed.sends} times in all"
    return written(changed, at, commands=outstanding(changed), note=note)


def move_timer(saga: Saga, at: At) -> Transition:
    """The timer fired early, or what it was set for can't be judged yet: look again later."""
    wake = wake_at(saga, at.limits)
    if wake is not None and wake <= at.now:
        # Each look is a line of history, and any number of orders may await their payment while
        # users' commands can't be read: the longer that lasts, the less often they look.
        pause = at.limits.resend_after
        if saga.state is SagaState.AWAITING_PAYMENT and saga.pay_by is not None:
            pause = min(max(pause, at.now - saga.pay_by), at.limits.resend_at_most)
        wake = at.now + spread(saga.order.order_id, saga.version, pause)
    changed = saga._replace(version=saga.version + 1, timer_at=wake)
    return written(changed, at, note="timer moved")


def outstanding(saga: Saga) -> tuple[Message, ...]:
    """The commands that no reply has come to: undos in reverse order, then what goes forward."""
    undos = [
        undo_of(saga, place) for place in reversed(range(PIVOT)) if saga.steps[place] in UNDO_OWED
    ]
    dos = [
        step.do(saga)
        for step, status in zip(STEPS, saga.steps, strict=True)
        if status is StepStatus.SENT
    ]
    return (*undos, *dos)


def undo_of(saga: Saga, place: int) -> Message:
    undo = STEPS[place].undo
    if undo is None:
        raise UnfitSagaError(f"{STEPS[place].name} has no undo")
    return undo(saga)


def cancelled(cancel: Cancel) -> Ending:
    """How a cancelled order ends."""
    note = cancel.note and cancel.note[:MAX_NOTE_CHARS]
    return Ending(SagaState.CANCELLED, _CANCEL_REASONS[cancel.by], note=note)
