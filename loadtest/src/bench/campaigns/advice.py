"""What each kind is for, worked out from what was measured. Pure.

Every kind stands beside the first, in both situations. What it is better and worse in is all that
is told: that a kind asks a rule, or draws, is no figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.campaigns.figures import CellFigures, cell_figures
from bench.campaigns.plan import KINDS, Keying, title
from bench.compare import NO_DIFFERENCE
from bench.differences import gap_of, ratio_of
from bench.figures import RESOLUTION_MS
from bench.text import count, interval
from shared.contracts.coupon import CampaignKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.campaigns.plan import CouponPlan
    from bench.campaigns.record import CouponRecord
    from bench.differences import Judged
    from bench.figures import Spread

FIRST: Final = KINDS[0]
P99, CPU = "p99", "processor time"
OVERTAKEN, INVERTED = "users overtaken", "coupons out of order"
GOOD: Final = {
    P99: "a short p99",
    CPU: "little processor time",
    OVERTAKEN: "few users overtaken",
    INVERTED: "coupons in order",
}
"""What is measured -> what is better, where the two have different names."""
SHARE: Final = 0.01
"""Of the users, or of the pairs of coupons: fewer that are out of order move nobody."""


class Chance(NamedTuple):
    """Whether who comes late has the chance of who comes early, where with the other they don't."""

    early: Spread
    """Coupons that went to the earlier half of the users."""
    others: float
    """The same of the other, median."""
    coupons: int
    virtue: str = "an equal chance for who comes late"

    @property
    def judged(self) -> int:
        """1: equal here and not there; 0: not seen."""
        low, high, half = self.early.low, self.early.high, self.coupons / 2
        if low is None or high is None or low <= self.others <= high:
            return 0
        return int(half / 2 <= low <= half <= high <= half * 1.5)

    @property
    def cells(self) -> tuple[str, str, str]:
        """In a table."""
        beside = f"{count(self.early.median)} beside {count(self.others)}"
        return "coupons to the earlier half of the users", beside, interval(self.early)

    @property
    def shown(self) -> str:
        """In brackets."""
        what, beside, ends = self.cells
        return f"{beside} {what}, {ends}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one kind stands beside the first in one situation."""

    kind: CampaignKind
    keying: Keying
    differences: tuple[Judged, ...]

    @property
    def gains(self) -> list[Judged]:
        """What it is better in."""
        return [one for one in self.differences if one.judged > 0]

    @property
    def costs(self) -> list[Judged]:
        """What it is worse in."""
        return [one for one in self.differences if one.judged < 0]


def standings(record: CouponRecord) -> list[Standing]:
    """Of all kinds but the first."""
    found = {(one.kind, one.keying): one for one in cell_figures(record)}
    return [
        Standing(kind, keying, tuple(differences(found[kind, keying], first, record.plan)))
        for keying in Keying
        for first in (found[FIRST, keying],)
        for kind in KINDS[1:]
    ]


def spreading(record: CouponRecord) -> list[Standing]:
    """Of every kind over all partitions, beside the same on one."""
    found = {(one.kind, one.keying): one for one in cell_figures(record)}
    return [
        Standing(kind, Keying.NONE, tuple(differences(spread, keyed, record.plan)))
        for kind in KINDS
        for spread, keyed in ((found[kind, Keying.NONE], found[kind, Keying.CAMPAIGN]),)
    ]


def differences(one: CellFigures, other: CellFigures, plan: CouponPlan) -> list[Judged]:
    """How `one` is beside `other`, of two cells of the same run.

    Coupons a second of a lottery count from its draw, and stand beside no other kind's.
    """
    found: list[Judged] = []
    if (one.kind is CampaignKind.LOTTERY) == (other.kind is CampaignKind.LOTTERY):
        issued = one.issued.values, other.issued.values
        found.append(ratio_of("coupons a second", *issued, "more"))
    verdicts = one.per_second.values, other.per_second.values
    p99, cpu = (one.p99.values, other.p99.values), (one.cpu.values, other.cpu.values)
    pairs = comb(plan.coupons, 2)
    return [
        *found,
        ratio_of("verdicts a second", *verdicts, "more"),
        ratio_of(P99, *p99, "less", RESOLUTION_MS),
        ratio_of(CPU, *cpu, "less"),
        gap_of(OVERTAKEN, one.overtaken, other.overtaken, plan.users * SHARE),
        gap_of(INVERTED, one.inversions, other.inversions, pairs * SHARE),
        Chance(one.early.spread, other.early.spread.median, plan.coupons),
    ]


def sentences(found: Sequence[Standing]) -> list[str]:
    """One for each kind."""
    return [_of_first(found), *(_of_kind(kind, found) for kind in KINDS[1:])]


def _of_first(found: Sequence[Standing]) -> str:
    parts = []
    for keying in Keying:
        better = [one for one in found if one.keying is keying and one.gains]
        what = ", and ".join(f"{one.kind} is better in {_told(one.gains)}" for one in better)
        parts.append(f"{title(keying)} {what or 'no other kind is better in anything'}")
    better = [one for one in found if one.gains]
    costs = _goods(each for one in better for each in one.costs)
    if not better:
        end = "choose it wherever its way to choose users will do"
    elif costs:
        end = f"choose it for {costs}, and another kind for that"
    else:
        end = "choose another kind for that"
    return f"{FIRST}: {'; '.join(parts)}: {end}."


def _of_kind(kind: CampaignKind, found: Sequence[Standing]) -> str:
    own = [one for one in found if one.kind is kind]
    parts = [f"{title(one.keying)} {_of_one(one)}" for one in own]
    gains = _goods(each for one in own for each in one.gains)
    costs = _goods(each for one in own for each in one.costs)
    if gains and costs:
        end = f"choose it for {gains}, and not for {costs}"
    elif gains:
        end = f"choose it for {gains}"
    elif costs:
        end = f"choose it for its way to choose users, and not for {costs}"
    else:
        end = "choose it for its way to choose users, since the figures tell nothing"
    return f"{kind}, beside {FIRST}: {'; '.join(parts)}: {end}."


def spreading_sentence(found: Sequence[Standing]) -> str:
    """What it changes that requests have no key."""
    parts = "; ".join(f"{one.kind}: {_of_one(one)}" for one in found)
    return f"Requests over all partitions, beside those on one: {parts}."


def _of_one(standing: Standing) -> str:
    gains = f"better in {_told(standing.gains)}" if standing.gains else ""
    costs = f"worse in {_told(standing.costs)}" if standing.costs else ""
    return ", but ".join(filter(None, (gains, costs))) or NO_DIFFERENCE


def _told(seen: Sequence[Judged]) -> str:
    return _listed([f"{one.virtue} ({one.shown})" for one in seen])


def _goods(found: Iterable[Judged]) -> str:
    return _listed(list(dict.fromkeys(GOOD.get(one.virtue, one.virtue) for one in found)))


def _listed(texts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = texts or ("",)
    return f"{', '.join(most)} and {last}" if most else last
