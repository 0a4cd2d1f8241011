"""What the lines under one key say of each other: ours, and the gateway's. Pure.

| ours                    | nothing there | declined    | processing   | captured, given back |
|-------------------------|---------------|-------------|--------------|----------------------|
| SUCCEEDED               | missing there | contradicts | contradicts  | agrees               |
| DECLINED                | agrees        | agrees      | contradicts  | contradicts          |
| WATCHED, VOID           | agrees        | agrees      | late capture | late capture         |
| WAITING, INTENDED, UNKNOWN, ABSENT | open, whatever is there                                |
| QUARANTINED             | a person has to look, whatever is there                           |
| none                    | unknown to us, whatever it is                                     |

Of refunds: a VOID one that is there contradicts. Another amount, currency or charge contradicts in
every state.

Money that was captured and wholly given back did not move, whoever gave it back: where we hold that
none moved, or know of nothing, that agrees. An order of which several captures stand is charged
twice, under whichever keys.

What an operator closed is held against the book by money:

| closed by hand | nothing there            | declined | processing   | captured, given back     |
|----------------|--------------------------|----------|--------------|--------------------------|
| charge         | by hand                  | by hand  | contradicts  | by hand, or contradicts  |
| refund, VOID   | by hand                  | by hand  | by hand, or contradicts                 |
| other refund   | by hand, or missing there | by hand, or contradicts                           |
| none, a refund | -                        | by hand, or unknown to us                          |

`by hand` where the whole of the charge is given back, under whichever keys and in however many
parts, else as it stands behind the `or`. Likewise a refund of such a charge that is VOID here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.payment import CallKind as Kind
from shared.contracts.payment import CallState as State

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


UNDECIDED: Final = frozenset({State.WAITING, State.INTENDED, State.UNKNOWN, State.ABSENT})
"""Nobody knows yet what comes of these."""


class Status(StrEnum):
    """What the gateway's book says of a line."""

    PROCESSING = "processing"
    DECLINED = "declined"
    CAPTURED = "captured"
    SUCCEEDED = "succeeded"


class Ours(NamedTuple):
    """A call as we know it: amounts in minor units."""

    kind: Kind
    key: str
    order_id: str
    state: State
    amount: int
    currency: str
    reference: str | None = None
    """The gateway's id of the charge, where we were told it."""
    quarantine: str | None = None
    """Why a person has to look."""
    closed_by: str | None = None
    """The operator who closed it by hand."""


class Theirs(NamedTuple):
    """A line of the gateway's book."""

    kind: Kind
    id: str
    key: str
    status: Status
    amount: int
    currency: str
    charge: str
    """The id of the charge: its own, or that of which the refund is."""
    order_id: str | None
    """What the charge's `reference` names."""
    refunded: int = 0
    """How much of a charge was given back."""

    @property
    def is_returned(self) -> bool:
        """Whether it is a capture that was wholly given back."""
        return self.status is Status.CAPTURED and self.refunded == self.amount > 0

    @property
    def is_done(self) -> bool:
        """Whether money moved."""
        return self.status in (Status.CAPTURED, Status.SUCCEEDED)


class Verdict(StrEnum):
    """What comes of comparing. Differences stand with the worst first."""

    CHARGED_TWICE = "charged_twice"
    CONTRADICTS = "contradicts"
    MISSING_THERE = "missing_there"
    UNKNOWN_TO_US = "unknown_to_us"
    LATE_CAPTURE = "late_capture"
    QUARANTINED = "quarantined"
    BY_HAND = "by_hand"
    """An operator closed it, and no money of it is at the gateway any more: no difference."""
    OPEN = "open"
    """Nobody knows yet what comes of it: no difference."""
    AGREES = "agrees"

    @property
    def is_difference(self) -> bool:
        """Whether the books differ."""
        return self not in (Verdict.BY_HAND, Verdict.OPEN, Verdict.AGREES)


UNMOVED: Final = frozenset({State.WATCHED, State.DECLINED, State.VOID})
"""Of a call that is so, no money moved."""
DIFFERENCES: Final = tuple(one for one in Verdict if one.is_difference)
"""The worst first."""


class Finding(NamedTuple):
    """A verdict, and the lines that it is on."""

    verdict: Verdict
    ours: Ours | None
    theirs: tuple[Theirs, ...] = ()

    @property
    def order_id(self) -> str | None:
        """Which order it is about; None where the gateway's line names none."""
        return self.ours.order_id if self.ours else self.theirs[0].order_id

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.ours.key if self.ours else self.theirs[0].key


def judge(
    ours: Ours | None, theirs: Sequence[Theirs], returned: Collection[str] = ()
) -> list[Finding]:
    """What is found of the lines of one kind under one key; `returned` names charges of orders that
    were closed by hand of which nothing is left at the gateway.

    A gateway that has forgotten a key may have several lines under it. Ours is held against the one
    that it names, else against the one that got furthest, and we know nothing of the others.
    """
    if ours is None:
        return [
            Finding(compare(None, line, is_returned=line.charge in returned), None, (line,))
            for line in theirs
        ]
    paired = min(theirs, key=lambda line: _distance(ours, line), default=None)
    charge = paired.charge if paired else ours.reference
    verdict = compare(ours, paired, is_returned=charge in returned)
    found = [Finding(verdict, ours, (paired,) if paired else ())]
    others = (line for line in theirs if line is not paired)
    return found + [Finding(compare(None, line), None, (line,)) for line in others]


def given_back_otherwise(ours: Ours, refunds: Sequence[Theirs]) -> bool:
    """Whether our refund, which has no line of its own there, was made under other keys: all that
    the gateway gave back of the charge is what we gave back. Payment takes that for its own."""
    given_back = sum(line.amount for line in refunds if line.is_done)
    return ours.state is State.SUCCEEDED and ours.amount == given_back


def compare(ours: Ours | None, theirs: Theirs | None, *, is_returned: bool = False) -> Verdict:
    """What a pair of lines of one kind and key says; `is_returned` tells that their order was
    closed by hand, and that all of their charge is given back. Raises ValueError where there is
    neither line."""
    if ours is None:
        if theirs is None:
            raise ValueError("there is nothing to compare")
        if theirs.is_returned:
            return Verdict.AGREES
        is_known = is_returned and theirs.kind is Kind.REFUND
        return Verdict.BY_HAND if is_known else Verdict.UNKNOWN_TO_US
    if ours.state is State.QUARANTINED:
        return Verdict.QUARANTINED
    if is_returned and theirs is not None and (ours.kind, ours.state) == (Kind.REFUND, State.VOID):
        return Verdict.BY_HAND
    if ours.closed_by is not None and ours.state not in UNDECIDED:
        return _by_hand(ours, theirs, is_returned=is_returned)
    if theirs is None:
        return _alone(ours)
    if theirs.is_returned and ours.state in UNMOVED:
        return Verdict.AGREES
    if contradictions(ours, theirs):
        return Verdict.CONTRADICTS
    match ours.state:
        case state if state in UNDECIDED:
            return Verdict.OPEN
        case State.SUCCEEDED:
            return Verdict.AGREES if theirs.is_done else Verdict.CONTRADICTS
        case State.DECLINED:
            is_same = theirs.status is Status.DECLINED
            return Verdict.AGREES if is_same else Verdict.CONTRADICTS
        case _:
            return _turned_up(ours, theirs)


def contradictions(ours: Ours, theirs: Theirs) -> list[str]:
    """What can't be true of one and the same line: its amount, its currency, its charge."""
    found = []
    if (ours.amount, ours.currency) != (theirs.amount, theirs.currency):
        found.append("amount")
    if ours.reference is not None and ours.reference != theirs.charge:
        found.append("charge")
    return found


def _by_hand(ours: Ours, theirs: Theirs | None, *, is_returned: bool) -> Verdict:
    """Money counts, and not what the lines say of each other."""
    if is_returned or (theirs is not None and theirs.is_returned):
        return Verdict.BY_HAND
    is_nothing = theirs is None or theirs.status is Status.DECLINED
    if is_nothing and (ours.kind is Kind.CHARGE or ours.state is State.VOID):
        return Verdict.BY_HAND
    return Verdict.MISSING_THERE if theirs is None else Verdict.CONTRADICTS


def _alone(ours: Ours) -> Verdict:
    match ours.state:
        case State.SUCCEEDED:
            return Verdict.MISSING_THERE
        case state if state in UNDECIDED:
            return Verdict.OPEN
        case _:
            return Verdict.AGREES


def _turned_up(ours: Ours, theirs: Theirs) -> Verdict:
    """There, though we hold that it isn't. A decline makes no difference: no money moved."""
    if theirs.status is Status.DECLINED:
        return Verdict.AGREES
    return Verdict.LATE_CAPTURE if ours.kind is Kind.CHARGE else Verdict.CONTRADICTS


def _distance(ours: Ours, theirs: Theirs) -> tuple[bool, bool, bool, str]:
    return (
        theirs.charge != ours.reference,
        not theirs.is_done,
        theirs.status is Status.DECLINED,
        theirs.id,
    )
