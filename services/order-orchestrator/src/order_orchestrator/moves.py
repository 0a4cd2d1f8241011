"""The moves a saga can make. `engine.py` decides which one; here is what each of them writes.

A move takes the saga as it was and the step statuses as they shall be, and raises the version by
one. It is the only place where commands and events of a saga are built.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from order_orchestrator.domain import (
    MAY_BE_DONE,
    MAY_WAIT_FOR_REPLY,
    UNDO_OWED,
    Cancel,
    CancelledBy,
    Ending,
    Limits,
    PayTiming,
    Saga,
    SagaState,
    StepStatus,
    Stuck,
    Told,
    evolve,
)
from order_orchestrator.events import HistoryEntry, Transition
from order_orchestrator.outcomes import awaiting_payment_event, outcome_event
from order_orchestrator.saga import CHARGE, PIVOT, STEPS, UnfitSaga, priced
from order_orchestrator.timing import wake_at
from shared.contracts.base import MAX_NOTE_CHARS, Message
from shared.contracts.order_parts import OutcomeReason

Steps = tuple[StepStatus, ...]

_CANCEL_REASONS: Final = {
    CancelledBy.USER: OutcomeReason.CANCELLED_BY_USER,
    CancelledBy.OPERATOR: OutcomeReason.CANCELLED_BY_OPERATOR,
}


@dataclass(frozen=True, slots=True)
class At:
    """The circumstances of a transition: when, under which limits, and the event's name."""

    now: datetime
    limits: Limits
    cause: str


def with_status(steps: Steps, place: int, status: StepStatus) -> Steps:
    return (*steps[:place], status, *steps[place + 1 :])


def seal(
    changed: Saga,
    at: At,
    *,
    commands: tuple[Message, ...] = (),
    event: Message | None = None,
    note: str | None = None,
    move_timer: bool = False,
) -> Transition:
    """Ends every move: sees to the timer and writes the history.

    `timer_at` is indexed, and a row whose indexed columns rest is cheaper to update. So it stays
    as long as it is early enough: a timer that fires early is only moved.
    """
    timer = changed.timer_at
    if move_timer or timer is None or not _early_enough(changed, timer, at.limits):
        wake = wake_at(changed, at.limits)
        if move_timer or timer is None or wake is None or wake < timer:
            changed = evolve(changed, timer_at=wake)
    entry = HistoryEntry(changed.version, changed.state, at.cause, at.now, note)
    return Transition(changed, entry, commands, event)


def _early_enough(saga: Saga, timer: datetime, limits: Limits) -> bool:
    """A cheap yes for the common case; a no means only that it must be looked at."""
    return (
        saga.state in MAY_WAIT_FOR_REPLY
        and saga.stuck is None
        and saga.last_sent_at is not None
        and timer <= saga.last_sent_at + limits.resend_after
    )


def advance(saga: Saga, steps: Steps, at: At, note: str | None = None) -> Transition:
    """Takes the next step before the pivot, or passes it."""
    for place in range(PIVOT):
        if steps[place] is not StepStatus.NOT_STARTED:
            continue
        if place == CHARGE:
            if _price_changed(saga):
                ending = Ending(SagaState.REJECTED, OutcomeReason.PRICE_CHANGED)
                return give_up(saga, steps, ending, at)
            if saga.order.pay is PayTiming.LATER and saga.pay_command_id is None:
                return _await_payment(saga, steps, at)
        if not STEPS[place].skipped(saga):
            return _send(saga, steps, place, at, note)
        steps = with_status(steps, place, StepStatus.SKIPPED)
    return _confirm(saga, steps, at, note)


def _price_changed(saga: Saga) -> bool:
    expected = saga.order.expected_total
    return expected is not None and expected != priced(saga).total


def _send(saga: Saga, steps: Steps, place: int, at: At, note: str | None) -> Transition:
    step = STEPS[place]
    changed = evolve(
        saga,
        version=saga.version + 1,
        state=step.state,
        steps=with_status(steps, place, StepStatus.SENT),
        stuck=None,
        sends=1,
        last_sent_at=at.now,
    )
    return seal(changed, at, commands=(step.do(changed),), note=note)


def _await_payment(saga: Saga, steps: Steps, at: At) -> Transition:
    changed = evolve(
        saga,
        version=saga.version + 1,
        state=SagaState.AWAITING_PAYMENT,
        steps=steps,
        stuck=None,
        sends=0,
        last_sent_at=None,
        pay_by=at.now + at.limits.pay_deadline,
    )
    return seal(changed, at, event=awaiting_payment_event(changed, at.now))


def _confirm(saga: Saga, steps: Steps, at: At, note: str | None) -> Transition:
    """The pivot: the outcome and all that follows from it, in one transaction."""
    places = []
    for place in range(PIVOT, len(STEPS)):
        skipped = STEPS[place].skipped(saga)
        steps = with_status(steps, place, StepStatus.SKIPPED if skipped else StepStatus.SENT)
        if not skipped:
            places.append(place)
    version = saga.version + 1
    changed = evolve(
        saga,
        version=version,
        state=SagaState.COMPLETING,
        steps=steps,
        stuck=None,
        sends=1,
        last_sent_at=at.now,
        told=Told(version, at.now),
    )
    commands = tuple([STEPS[place].do(changed) for place in places])
    return seal(changed, at, commands=commands, event=outcome_event(changed), note=note)


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
    changed = evolve(
        saga,
        version=saga.version + 1,
        state=SagaState.COMPENSATING,
        steps=steps,
        ending=ending,
        stuck=None,
        sends=1,
        last_sent_at=at.now,
    )
    commands = tuple([undo_of(changed, place) for place in places])
    return seal(changed, at, commands=commands, note=note or ending.reason.value)


def end(saga: Saga, steps: Steps, ending: Ending, at: At, note: str | None = None) -> Transition:
    """Tells the outcome of a saga that was given up."""
    version = saga.version + 1
    changed = evolve(
        saga,
        version=version,
        state=ending.state,
        steps=steps,
        ending=ending,
        told=Told(version, at.now),
        stuck=None,
        sends=0,
        last_sent_at=None,
    )
    note = note or ending.reason.value
    return seal(changed, at, event=outcome_event(changed), note=note, move_timer=True)


def rest(saga: Saga, steps: Steps, state: SagaState, at: At, note: str | None = None) -> Transition:
    """Ends a saga whose outcome was told before: nothing is out any more."""
    changed = evolve(
        saga,
        version=saga.version + 1,
        state=state,
        steps=steps,
        stuck=None,
        sends=0,
        last_sent_at=None,
    )
    return seal(changed, at, note=note, move_timer=True)


def record(saga: Saga, steps: Steps, at: At, note: str | None = None) -> Transition:
    """Writes step statuses down and changes nothing else."""
    return seal(evolve(saga, version=saga.version + 1, steps=steps), at, note=note)


def stick(saga: Saga, why: str, at: At) -> Transition:
    """Needs an operator: the timer rests, what is owed stays visible."""
    changed = evolve(saga, version=saga.version + 1, stuck=Stuck(at.now, why))
    return seal(changed, at, note=f"stuck: {why}", move_timer=True)


def send_again(saga: Saga, at: At) -> Transition:
    """The same commands under the same ids."""
    changed = evolve(
        saga, version=saga.version + 1, sends=saga.sends + 1, last_sent_at=at.now
    )
    return seal(
        changed,
        at,
        commands=outstanding(changed),
        note=f"sent again, {changed.sends} times in all",
        move_timer=True,
    )


def outstanding(saga: Saga) -> tuple[Message, ...]:
    """The commands that no reply has come to: undos in reverse order, then what goes forward."""
    undos = [
        undo_of(saga, place)
        for place in reversed(range(PIVOT))
        if saga.steps[place] in UNDO_OWED
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
        raise UnfitSaga(f"{STEPS[place].name} has no undo")
    return undo(saga)


def cancelled(cancel: Cancel) -> Ending:
    """How a cancelled order ends."""
    note = cancel.note and cancel.note[:MAX_NOTE_CHARS]
    return Ending(SagaState.CANCELLED, _CANCEL_REASONS[cancel.by], note=note)
