"""The saga's record: what was ordered, how far it is, what is still owed.

Immutable values only: no I/O, no clock, no randomness. `saga.py` has the table of steps,
`engine.py` makes new records of these, `records.py` turns them into rows and back. The records
are named tuples, since each transition makes one anew: a frozen dataclass of that size costs
2.4 times as much.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from shared.contracts.order_parts import (
    Line,
    OrderStatus,
    OutcomeDetail,
    OutcomeReason,
    PaymentChoice,
    PayTiming,
    PricedLine,
)


class SagaState(StrEnum):
    """Where a saga is. Closed: here, in the table's CHECK and in the README's diagram."""

    PENDING = "PENDING"
    """Stored, not started: too many others wait for a reply."""
    RESERVING = "RESERVING"
    HOLDING = "HOLDING"
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    """Units and coupon are held, no reply is owed, a `PayOrder` is awaited."""
    CHARGING = "CHARGING"
    COMPLETING = "COMPLETING"
    """Past the pivot: confirmed to the world, `use` and `commit` are retried until done."""
    COMPENSATING = "COMPENSATING"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


ENDED: Final = frozenset({SagaState.CONFIRMED, SagaState.REJECTED, SagaState.CANCELLED})
FORWARD: Final = frozenset({SagaState.RESERVING, SagaState.HOLDING, SagaState.CHARGING})
"""One `do` is out, and the pivot lies ahead."""
SENDING: Final = FORWARD | {SagaState.COMPLETING, SagaState.COMPENSATING}
"""A command is out."""
AFTER_RESERVATION: Final = frozenset(
    {SagaState.HOLDING, SagaState.AWAITING_PAYMENT, SagaState.CHARGING, SagaState.COMPLETING}
)
"""The price is known."""

_S = SagaState
_GIVEN_UP: Final = frozenset({_S.COMPENSATING, _S.REJECTED, _S.CANCELLED})
_NEXT: Final[dict[SagaState | None, frozenset[SagaState]]] = {
    None: frozenset({_S.PENDING, _S.RESERVING, _S.REJECTED}),
    _S.PENDING: frozenset({_S.RESERVING, _S.CANCELLED}),
    _S.RESERVING: frozenset({_S.HOLDING, _S.AWAITING_PAYMENT, _S.CHARGING, _S.COMPLETING})
    | _GIVEN_UP,
    _S.HOLDING: frozenset({_S.AWAITING_PAYMENT, _S.CHARGING, _S.COMPLETING, _S.COMPENSATING}),
    _S.AWAITING_PAYMENT: frozenset({_S.CHARGING, _S.COMPLETING, _S.COMPENSATING}),
    _S.CHARGING: frozenset({_S.COMPLETING, _S.COMPENSATING}),
    _S.COMPLETING: frozenset({_S.CONFIRMED}),
    _S.COMPENSATING: frozenset({_S.REJECTED, _S.CANCELLED}),
}
LEGAL: Final = frozenset((old, new) for old, news in _NEXT.items() for new in news)
"""The changes of state there are; `None` stands before a saga is stored. Staying in a state
(sent again, a wish recorded, stuck, a late reply) is always legal."""

_STATUS: Final = {
    _S.PENDING: OrderStatus.PENDING,
    _S.RESERVING: OrderStatus.PENDING,
    _S.HOLDING: OrderStatus.PENDING,
    _S.AWAITING_PAYMENT: OrderStatus.AWAITING_PAYMENT,
    _S.CHARGING: OrderStatus.PENDING,
    _S.COMPLETING: OrderStatus.CONFIRMED,
    _S.COMPENSATING: OrderStatus.COMPENSATING,
    _S.CONFIRMED: OrderStatus.CONFIRMED,
    _S.REJECTED: OrderStatus.REJECTED,
    _S.CANCELLED: OrderStatus.CANCELLED,
}


class StepStatus(StrEnum):
    NOT_STARTED = "not_started"
    SKIPPED = "skipped"
    SENT = "sent"
    """The `do` is out and unanswered: in doubt."""
    DONE = "done"
    REFUSED = "refused"
    """It did not happen and never will."""
    UNDOING = "undoing"
    """The undo is out and unanswered."""
    UNDONE = "undone"
    ABSENT = "absent"
    """The undo found nothing, and left its tombstone."""
    UNDOING_LATE = "undoing_late"
    """The `do` turned up as done after it was refused, absent or settled: undone, once."""
    SETTLED = "settled"
    """An operator ended the saga while this step was owed."""


UNDO_OWED: Final = frozenset({StepStatus.UNDOING, StepStatus.UNDOING_LATE})
MAY_BE_DONE: Final = frozenset({StepStatus.SENT, StepStatus.DONE})


class CancelledBy(StrEnum):
    USER = "user"
    OPERATOR = "operator"


class Order(NamedTuple):
    """What was ordered and how it came in. Never changes.

    `lines` have each product once, sorted. `user_id` is empty only where a `PlaceOrder` couldn't
    be read, which is stored as rejected.
    """

    order_id: str
    user_id: str
    lines: tuple[Line, ...]
    coupon_id: str | None
    payment: PaymentChoice
    pay: PayTiming
    expected_total: int | None
    reference: str | None
    currency: str
    fingerprint: bytes
    fingerprint_version: int
    traceparent: str | None
    accepted_at: datetime


class Price(NamedTuple):
    """Minor units, from the catalogue's prices at the reservation. `total` is after `discount`."""

    items: tuple[PricedLine, ...]
    subtotal: int
    discount: int

    @property
    def total(self) -> int:
        return self.subtotal - self.discount


class Cancel(NamedTuple):
    """A recorded wish, acted on at the next reply or timer."""

    by: CancelledBy
    note: str | None


class Ending(NamedTuple):
    """How a saga that was given up ends, once all is undone: `REJECTED` or `CANCELLED`, and why."""

    state: SagaState
    reason: OutcomeReason
    details: tuple[OutcomeDetail, ...] = ()
    note: str | None = None


class Told(NamedTuple):
    """When the outcome was told: the version and time its event carries, however often sent."""

    version: int
    at: datetime


class Stuck(NamedTuple):
    """A flag beside the state: timers rest, late replies still count, an operator is needed."""

    since: datetime
    why: str


class Saga(NamedTuple):
    """One order's saga. `steps` are in the order of `saga.STEPS`; times are aware, in UTC.

    `version` rises by one with each change of the record. `sends` counts how often the commands
    that are out were sent, `last_sent_at` says when last. `timer_at` is never later than the
    moment at which something is due; it may be earlier, and then it is only moved.
    """

    order: Order
    definition_version: int
    state: SagaState
    version: int
    steps: tuple[StepStatus, ...]
    payment: PaymentChoice
    price: Price | None = None
    pay_command_id: str | None = None
    cancel: Cancel | None = None
    ending: Ending | None = None
    told: Told | None = None
    stuck: Stuck | None = None
    sends: int = 0
    last_sent_at: datetime | None = None
    deadline_at: datetime | None = None
    pay_by: datetime | None = None
    timer_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often. `undo_sends` bounds undos and what follows the pivot alike."""

    resend_after: timedelta = timedelta(seconds=5)
    resend_at_most: timedelta = timedelta(seconds=60)
    order_deadline: timedelta = timedelta(seconds=60)
    settlement_window: timedelta = timedelta(seconds=120)
    """A charge at the gateway may stay unanswered for so long past the order's deadline."""
    pay_deadline: timedelta = timedelta(minutes=15)
    reading_grace: timedelta = timedelta(seconds=1)
    """By how much the moment up to which replies were read usually trails the clock."""
    undo_sends: int = 10

    def __post_init__(self) -> None:
        """Raises `ValueError` where the limits contradict each other."""
        if not timedelta(0) < self.resend_after <= self.resend_at_most:
            raise ValueError("resend_after must be above 0 and at most resend_at_most")
        if self.order_deadline < 2 * self.resend_after:
            raise ValueError("order_deadline must leave time to send a command twice")
        if self.settlement_window < timedelta(0):
            raise ValueError("settlement_window must not be below 0")
        if self.pay_deadline <= timedelta(0) or self.reading_grace < timedelta(0):
            raise ValueError("pay_deadline must be above 0, reading_grace not below")
        if self.undo_sends < 2:
            raise ValueError("undo_sends must allow for sending again")


@dataclass(frozen=True, slots=True)
class Owed:
    """What a saga that came to rest now would leave open: units held, money, a coupon."""

    units: tuple[Line, ...]
    money: int
    currency: str
    coupon_id: str | None
    steps: tuple[str, ...]


def public_status(saga: Saga) -> OrderStatus:
    """What the world is told: `CONFIRMED` from the pivot on, `COMPENSATING` until all is undone."""
    return _STATUS[saga.state]
