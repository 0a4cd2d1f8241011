"""What each transition of a saga wrote, told from its history and the table of steps. Pure.

The history has state, cause and note of a transition, not its messages; internal messages leave
the outbox once they are published. But a transition is a function of what came before: followed
from the first line on, it says which steps went out and which events were told. The unit tests
hold this against what the engine wrote in every transition that they, and the simulation, make.

Where the statuses that come out aren't those that the saga has, nothing is told: an answer that
is missing is better than one that is wrong.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from order_orchestrator.domain import (
    FORWARD,
    MAY_BE_DONE,
    UNDO_OWED,
    Saga,
    SagaState,
    StepStatus,
)
from order_orchestrator.saga import (
    DEFINITION_VERSION,
    NOTHING_STARTED,
    PIVOT,
    STEPS,
    USE,
)

_S, _T = SagaState, StepStatus
_DONE: Final = {step.done.__name__: place for place, step in enumerate(STEPS)}
_UNDONE: Final = {step.undone.__name__: place for place, step in enumerate(STEPS) if step.undone}
_REFUSED: Final = {step.refused.__name__ for step in STEPS if step.refused}
_EVENTS: Final = {
    _S.AWAITING_PAYMENT: ("OrderAwaitingPayment",),
    _S.COMPLETING: ("OrderConfirmed",),
    _S.REJECTED: ("OrderRejected",),
    _S.CANCELLED: ("OrderCancelled",),
}
_STEP_OF: Final = {step.state: place for place, step in enumerate(STEPS[:PIVOT])}


class Line(NamedTuple):
    """What is needed of a line of history."""

    state: str
    cause: str
    note: str | None


class Told(NamedTuple):
    """What one transition wrote: commands as `reserve:do`, events by their type."""

    commands: tuple[str, ...]
    events: tuple[str, ...]


def messages_written(saga: Saga, history: Sequence[Line]) -> list[Told] | None:
    """What each line of `history`, which is whole and in its order, wrote.

    None where that can't be told for certain.
    """
    if saga.definition_version != DEFINITION_VERSION or len(history) != saga.version:
        return None
    follower = _Follower(coupon=saga.order.coupon_id is not None)
    told = [follower.follow(line) for line in history]
    return told if follower.agrees_with(saga) else None


class _Follower:
    def __init__(self, *, coupon: bool) -> None:
        self._coupon = coupon
        self._state: SagaState | None = None
        self._steps = list(NOTHING_STARTED)

    def agrees_with(self, saga: Saga) -> bool:
        """Whether the saga is where its history leads to. What an undo found isn't in it."""
        found = [_coarse(status) for status in self._steps]
        return self._state is saga.state and found == [_coarse(status) for status in saga.steps]

    def follow(self, line: Line) -> Told:
        state, note = SagaState(line.state), line.note or ""
        before, self._state = self._state, state
        if note.startswith("stuck: "):  # whatever was said, no step moved
            return Told((), ())
        commands = self._caused(line.cause, note, before)
        events: tuple[str, ...] = ()
        if state is not before:
            commands += self._entered(state)
            # What was confirmed was told at the pivot.
            events = _EVENTS.get(state, ())
            if before is None and state is not SagaState.REJECTED:
                events = ("OrderAccepted", *events)
        return Told(tuple(commands), events)

    def _caused(self, cause: str, note: str, before: SagaState | None) -> list[str]:
        """What the cause itself says of the steps, and what is sent without a change of state."""
        steps = self._steps
        if cause in _DONE:
            place = _DONE[cause]
            if note == "done late, undone":
                steps[place] = _T.UNDOING_LATE
                return [_name(place, "undo")]
            steps[place] = _T.DONE
        elif cause in _UNDONE:
            steps[_UNDONE[cause]] = _T.UNDONE
        elif cause in _REFUSED and before in _STEP_OF:
            steps[_STEP_OF[before]] = _T.REFUSED
        elif cause == "Settle" and before not in FORWARD:
            for place, status in enumerate(steps):
                if status is _T.SENT or status in UNDO_OWED:
                    steps[place] = _T.SETTLED
        elif cause == "Retry" or (cause == "TimerFired" and note.startswith("sent again")):
            return self._outstanding()
        return []

    def _entered(self, state: SagaState) -> list[str]:
        """What goes out with a change of state."""
        steps = self._steps
        if state in _STEP_OF:
            self._send(_STEP_OF[state])
            return [_name(_STEP_OF[state], "do")]
        if state is SagaState.COMPLETING:
            places = [place for place in range(PIVOT, len(STEPS)) if place != USE or self._coupon]
            for place in places:
                self._send(place)
            return [_name(place, "do") for place in places]
        if state is SagaState.COMPENSATING:
            undone = [place for place in reversed(range(PIVOT)) if steps[place] in MAY_BE_DONE]
            for place in undone:
                steps[place] = _T.UNDOING
            return [_name(place, "undo") for place in undone]
        return []

    def _send(self, place: int) -> None:
        self._steps[place] = _T.SENT

    def _outstanding(self) -> list[str]:
        undos = [
            _name(place, "undo")
            for place in reversed(range(PIVOT))
            if self._steps[place] in UNDO_OWED
        ]
        dos = [_name(place, "do") for place, status in enumerate(self._steps) if status is _T.SENT]
        return undos + dos


def _name(place: int, direction: str) -> str:
    return f"{STEPS[place].name}:{direction}"


def _coarse(status: StepStatus) -> StepStatus:
    """Statuses that a history can't tell apart, and that nothing is sent for, as one."""
    if status is _T.SKIPPED:
        return _T.NOT_STARTED
    return _T.UNDONE if status is _T.ABSENT else status
