"""Whether a lottery was drawn as it was promised: from what is published, and from nothing else.

The evidence is the campaign's events in the order in which they lie on `coupon.events.v1`, and the
list of those who entered. Events may come again (at-least-once): the same event says nothing new.
Where the topic's beginning is gone by retention, what it may have held is not held against the
draw. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.contracts import lottery
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponIssued,
    LotteryDrawn,
    LotteryEntered,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    Given = tuple[str, int]
    """A user, and the sequence of the coupon."""


class Verdict(StrEnum):
    """What came of a check."""

    OK = "ok"
    FAILED = "failed"
    OPEN = "open"
    """It can't be told, or not yet."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and what was found of it."""

    name: str
    verdict: Verdict
    found: str


@dataclass(frozen=True, slots=True)
class Verification:
    """All checks of a draw; `draw` is None where none is published."""

    checks: tuple[Check, ...]
    draw: LotteryDrawn | None
    last_ticket: str | None
    """The highest ticket that won."""

    @property
    def verdict(self) -> Verdict:
        """FAILED where one check failed, else OPEN where one is open, else OK."""
        found = {check.verdict for check in self.checks}
        return next(one for one in (Verdict.FAILED, Verdict.OPEN, Verdict.OK) if one in found)


@dataclass(slots=True)
class History:
    """What a campaign's events say, told one by one in their order. Repeats count once."""

    coupon_id: str
    is_cut: bool
    """Whether the topic's beginning is gone."""
    puts: list[CampaignPut] = field(default_factory=list)
    draws: list[LotteryDrawn] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    issued: dict[Given, None] = field(default_factory=dict)
    entered_under: set[str | None] = field(default_factory=set)
    """Each `seedHash` that entries were told."""
    events: int = 0
    unreadable: int = 0
    """Records under the campaign's key that no reader of this version understands."""

    def add(self, message: object) -> None:
        """The next event of the campaign. Others that lie under its key say nothing of a draw."""
        self.events += 1
        match message:
            case CampaignPut():
                if message not in self.puts:
                    self.puts.append(message)
            case LotteryEntered():
                self.entered.add(message.user_id)
                self.entered_under.add(message.seed_hash)
            case LotteryDrawn():
                if not any(_is_same(message, draw) for draw in self.draws):
                    self.draws.append(message)
            case CouponIssued():
                self.issued[message.user_id, message.sequence] = None


def _is_same(one: LotteryDrawn, other: LotteryDrawn) -> bool:
    """Whichever command they answer."""
    return one == other.model_copy(update={"command_id": one.command_id})


def why_not_verifiable(history: History) -> str | None:
    """Why there is no draw to verify, and what to do; None where there is one.

    Coupons of a lottery that nobody drew are no reason: that is to be found.
    """
    name = history.coupon_id
    gone = "; the beginning of the topic is gone by retention" if history.is_cut else ""
    if history.draws:
        return None
    if history.puts and history.puts[-1].kind is not CampaignKind.LOTTERY:
        return f"{name} is {history.puts[-1].kind}, which is not drawn"
    if not (history.puts or history.entered):
        return (
            f"coupon.events.v1 tells of no lottery {name}{gone}. `orderctl coupon list` tells the"
            " campaigns"
        )
    if history.issued and not history.is_cut:
        return None
    return (
        f"{name} isn't drawn, as far as is published{gone}. `orderctl lottery draw {name}` draws it"
    )


def verify(history: History, entries: Sequence[str]) -> Verification:
    """Check a draw. `entries` are the users who entered, in the order of their numbers.

    The order in which events lie on the topic is no evidence: instances publish on their own.

    `why_not_verifiable` is None of this history.
    """
    drawn = _drawn(history)
    if not history.draws:
        return Verification((drawn,), None, None)
    draw = history.draws[0]
    winners = lottery.winners(draw.seed, entries, draw.winner_count)
    checks = (
        _commitment(history),
        drawn,
        _entries(draw, entries),
        _events(history, entries),
        _winners(history, draw, winners),
        _readable(history),
    )
    last = lottery.ticket(draw.seed, winners[-1]) if winners else None
    return Verification(checks, draw, last)


def _commitment(history: History) -> Check:
    """The seed was chosen before anybody entered, and never again: whoever entered was told the
    hash."""
    name = "commitment"
    if not history.puts:
        if history.is_cut and len(history.entered_under) < 2:
            return Check(name, Verdict.OPEN, "no CampaignPut is left: retention took it")
        return Check(name, Verdict.FAILED, "no CampaignPut is published")
    if any(put.seed_hash is None for put in history.puts):
        return Check(name, Verdict.FAILED, "a CampaignPut has no seedHash")
    if None in history.entered_under:
        return Check(name, Verdict.FAILED, "a LotteryEntered has no seedHash")
    hashes = sorted(map(str, {put.seed_hash for put in history.puts} | history.entered_under))
    if len(hashes) > 1:
        told = " and ".join(hashes)
        return Check(name, Verdict.FAILED, f"seedHash was changed: {told}")
    told = f"{_counted(len(history.puts), 'CampaignPut')} and in every LotteryEntered"
    return Check(name, Verdict.OK, f"one seedHash, in {told}: {hashes[0]}")


def _drawn(history: History) -> Check:
    """There is one draw, and its seed is the one that was chosen then."""
    name = "seed"
    if not history.draws:
        issued = _counted(len(history.issued), "coupon")
        return Check(name, Verdict.FAILED, f"no LotteryDrawn is published, but {issued}")
    if len(history.draws) > 1:
        return Check(name, Verdict.FAILED, f"{len(history.draws)} different draws are published")
    hashed = lottery.seed_hash(history.draws[0].seed)
    if not history.puts:
        return Check(name, Verdict.OPEN, f"no seedHash to compare with is left; this has {hashed}")
    if hashed != history.puts[0].seed_hash:
        told = f"its SHA-256 is {hashed}, and seedHash is {history.puts[0].seed_hash}"
        return Check(name, Verdict.FAILED, told)
    return Check(name, Verdict.OK, "its SHA-256 is seedHash")


def _entries(draw: LotteryDrawn, entries: Sequence[str]) -> Check:
    """The list of entries is the one that was drawn from."""
    name, hashed = "entries", lottery.entries_hash(entries)
    if len(entries) != draw.entry_count:
        told = f"there are {len(entries):,}, and {draw.entry_count:,} were drawn from"
        return Check(name, Verdict.FAILED, told)
    if hashed != draw.entries_hash:
        told = f"their hash is {hashed}, and entriesHash is {draw.entries_hash}"
        return Check(name, Verdict.FAILED, told)
    return Check(name, Verdict.OK, f"{len(entries):,} of them, and their hash is entriesHash")


def _events(history: History, entries: Collection[str]) -> Check:
    """Whoever was told to have entered is an entry, and nobody else is."""
    name, known = "entered", set(entries)
    if left_out := history.entered - known:
        told = f"{_some(left_out)} got LotteryEntered and is no entry"
        return Check(name, Verdict.FAILED, told)
    untold = known - history.entered
    if untold and not history.is_cut:
        told = f"{_some(untold)} is an entry without a LotteryEntered"
        return Check(name, Verdict.FAILED, told)
    told = f"{_counted(len(history.entered), 'user')} got LotteryEntered, and all are entries"
    if untold:
        told += f"; {len(untold):,} others entered before what is left of the topic"
    return Check(name, Verdict.OK, told)


def _winners(history: History, draw: LotteryDrawn, winners: Sequence[str]) -> Check:
    """The lowest tickets have the coupons, in their order, and nobody else has one."""
    name = "winners"
    possible = {min(put.limit, draw.entry_count) for put in history.puts}
    if draw.winner_count not in (possible or {draw.winner_count, len(winners)}):
        made = " or ".join(f"{count:,}" for count in sorted(possible))
        told = f"winnerCount is {draw.winner_count:,}, and entries and limit make {made}"
        return Check(name, Verdict.FAILED, told)
    if draw.winner_count != len(winners):
        told = f"winnerCount is {draw.winner_count:,}, and there are {len(winners):,} entries"
        return Check(name, Verdict.FAILED, told)
    wanted = {user: number for number, user in enumerate(winners, 1)}
    for user, sequence in history.issued:
        if user not in wanted:
            return Check(name, Verdict.FAILED, f"{user} has coupon {sequence:,} and did not win")
        if wanted[user] != sequence:
            told = f"{user} has coupon {sequence:,}, and won coupon {wanted[user]:,}"
            return Check(name, Verdict.FAILED, told)
    given = len(history.issued)
    if any((user, number) not in history.issued for number, user in enumerate(winners[:given], 1)):
        missing = next(n for n, user in enumerate(winners, 1) if (user, n) not in history.issued)
        told = f"{winners[missing - 1]} won coupon {missing:,} and has none, while later ones have"
        return Check(name, Verdict.FAILED, told)
    if given < len(winners):
        told = f"{given:,} of {len(winners):,} coupons are given out yet, the first ones in order"
        return Check(name, Verdict.OPEN, told)
    told = f"{_counted(given, 'CouponIssued')}, 1 to {given:,} in the order of the tickets"
    return Check(name, Verdict.OK, told if given else "nobody entered, and nobody has a coupon")


def _readable(history: History) -> Check:
    """Nothing is hidden in what can't be read."""
    if history.unreadable:
        told = f"{_counted(history.unreadable, 'record')} under its key can't be read"
        return Check("records", Verdict.OPEN, told)
    return Check("records", Verdict.OK, f"{_counted(history.events, 'event')} read")


def _some(users: Collection[str]) -> str:
    first = min(users)
    return first if len(users) == 1 else f"{first}, as {len(users) - 1:,} more,"


def _counted(number: int, noun: str) -> str:
    plural = noun if noun[0].isupper() or number == 1 else f"{noun}s"
    return f"{number:,} {plural}"
