"""What may happen to a saga, and what comes of it.

Commands of users and replies are contract messages as they were read; what comes from the clock,
from operators and from the dead letters is defined here. `engine.transition` takes one of them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from order_orchestrator.domain import Saga, SagaState
from order_orchestrator.saga import Reply
from shared.contracts.base import Message
from shared.contracts.orders import CancelOrder, PayOrder
from shared.contracts.refusals import CommandRefusal


@dataclass(frozen=True, slots=True)
class Start:
    """A pending saga takes its first step; its deadline runs from here."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The saga's `timer_at` has passed.

    Every reply, and every command of users, that was there at these moments has been read and
    applied: an answer that only waits to be read must undo no order.
    """

    replies_read_up_to: datetime
    requests_read_up_to: datetime


@dataclass(frozen=True, slots=True)
class OperatorCancel:
    operator: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Of a stuck saga: all that is out is sent again."""

    operator: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Of a stuck saga: what is owed is settled by hand, and `outcome` is what the order gets."""

    operator: str
    outcome: SagaState
    note: str


@dataclass(frozen=True, slots=True)
class StepDeadLettered:
    """A command of this saga, or the reply to it, lies among the dead letters."""

    command_id: str
    reason: str


Event = (
    Reply
    | TimerFired
    | Start
    | PayOrder
    | CancelOrder
    | OperatorCancel
    | Retry
    | Settle
    | StepDeadLettered
)


class IgnoreReason(StrEnum):
    """Why an event changed nothing. Counted; nobody is told."""

    OTHER_ORDER = "other_order"
    OTHER_STEP = "other_step"
    """The reply fits no step, or not the command that it names."""
    NEVER_SENT = "never_sent"
    DUPLICATE = "duplicate"
    UNDO_COVERS_IT = "undo_covers_it"
    """A late answer to a `do` whose undo is out or done."""
    ALREADY_STARTED = "already_started"
    ALREADY_CANCELLED = "already_cancelled"
    NOT_DUE = "not_due"
    NOT_OUTSTANDING = "not_outstanding"


class OperatorRefusal(StrEnum):
    NOT_STUCK = "not_stuck"
    OUTCOME_IMPOSSIBLE = "outcome_impossible"


@dataclass(frozen=True, slots=True)
class Ignored:
    reason: IgnoreReason


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that can't be obeyed; the saga stays as it is."""

    reason: CommandRefusal | OperatorRefusal
    detail: str


class HistoryEntry(NamedTuple):
    version: int
    state: SagaState
    cause: str
    """The event's name."""
    at: datetime
    note: str | None = None


class Transition(NamedTuple):
    """The changed saga, and what is written in the same transaction.

    `commands` go to the topic of their step (`saga.STEPS`), `event` to `orders.events.v1`.
    """

    saga: Saga
    history: HistoryEntry
    commands: tuple[Message, ...] = ()
    event: Message | None = None


Result = Transition | Ignored | Refused
