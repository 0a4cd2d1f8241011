"""What to choose when, worked out from what was measured. Pure.

Strategies are compared within each round, where the machine is the same for all: the ratio of two
is taken round by round, and its spread is that of these ratios. A difference counts where the
spread excludes 1 and the middle is NOTABLE or more; everything else is no reason to choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.figures import MIN_VALUES, RESOLUTION_MS, Spread, spread
from bench.strategies.figures import latencies, rates
from bench.strategies.plan import CASES, STRATEGIES
from bench.text import interval, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.strategies.plan import Case, StockPlan
    from bench.strategies.record import Cell, StockRecord
    from shared.contracts.stock import StockStrategy

NOTABLE: Final = 1.1
"""A factor below which a difference moves nobody to give up the simpler strategy."""
SIMPLEST: Final = STRATEGIES[0]


class Virtue(StrEnum):
    """What a strategy can be better in."""

    THROUGHPUT = "times the verdicts a second"
    LATENCY = "times the p99"


class Difference(NamedTuple):
    """Of one strategy to another: that of the other is 1."""

    virtue: Virtue
    ratio: Spread

    @property
    def judged(self) -> int:
        """1: better, -1: worse, 0: no difference seen."""
        low, high, middle = self.ratio.low, self.ratio.high, self.ratio.median
        if low is None or high is None:
            return 0
        more = int(low > 1 and middle >= NOTABLE) - int(high < 1 and middle <= 1 / NOTABLE)
        return more if self.virtue is Virtue.THROUGHPUT else -more

    def __str__(self) -> str:
        return f"{number(self.ratio.median)} {self.virtue}, spread {interval(self.ratio)}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to choose in one case."""

    case: Case
    strategy: StockStrategy
    gains: tuple[Difference, ...] = ()
    """What it is better in than the simplest; none where it is the simplest."""
    mixed: tuple[tuple[StockStrategy, tuple[Difference, ...]], ...] = ()
    """Those that are better than it in one respect, and worse in another."""


def choices(record: StockRecord) -> list[Choice]:
    """One for each case."""
    return [_choose([record.cell(case, strategy) for strategy in STRATEGIES]) for case in CASES]


def _choose(cells: Sequence[Cell]) -> Choice:
    """The simplest, unless another is better in one respect and worse in none."""
    simplest, *others = cells
    chosen = simplest
    for other in others:
        if _beats(other, simplest) and (chosen is simplest or _beats(other, chosen)):
            chosen = other
    mixed = []
    for other in cells:
        seen = _seen(other, chosen)
        if {each.judged for each in seen} == {1, -1}:
            mixed.append((other.strategy, seen))
    gains = tuple(each for each in _seen(chosen, simplest) if each.judged > 0)
    return Choice(chosen.case, chosen.strategy, gains, tuple(mixed))


def _beats(one: Cell, other: Cell) -> bool:
    return {each.judged for each in _seen(one, other)} == {1}


def _seen(one: Cell, other: Cell) -> tuple[Difference, ...]:
    return tuple(each for each in differences(one, other) if each.judged)


def differences(one: Cell, other: Cell) -> list[Difference]:
    """How `one` is beside `other`, of two cells of the same run."""
    p99, others_p99 = latencies(one, 0.99), latencies(other, 0.99)
    resolution = RESOLUTION_MS / min(others_p99)
    return [
        Difference(Virtue.THROUGHPUT, spread(_ratios(rates(one), rates(other)))),
        Difference(Virtue.LATENCY, spread(_ratios(p99, others_p99), resolution)),
    ]


def _ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


def sentence(found: Sequence[Choice], plan: StockPlan, *, disturbed: bool = False) -> str:
    """What an operator should choose when, of the choices of all cases.

    `disturbed`: other programs were at work, or the machine's own speed moved.
    """
    if plan.repeats < MIN_VALUES:
        return (
            f"Nothing can be advised: a spread needs {MIN_VALUES} rounds at least, and there were"
            f" {plan.repeats}."
        )
    special = [
        f"{strategy} for {', '.join(_with_gains(one, plan) for one in group)}"
        for strategy in STRATEGIES[1:]
        if (group := [one for one in found if one.strategy is strategy])
    ]
    plain = sum(one.strategy is SIMPLEST for one in found)
    parts = [f"Choose {' and '.join(special)}"] if special else []
    if plain:
        where = f"in the other {plain} cases" if special else f"in all {plain} cases"
        but = "but for what follows, " if any(one.mixed for one in found) else ""
        parts.append(
            f"{'' if special else 'Choose '}{SIMPLEST}, the simplest, {where}: {but}no other had"
            " more throughput or less p99 there by a tenth and by more than the spreads"
        )
    parts += [
        f"{strategy} for {plan.title(one.case)} is for you to weigh ({_told(seen)}, both beside"
        f" {one.strategy})"
        for one in found
        for strategy, seen in one.mixed
    ]
    text = f"{'; '.join(parts)}."
    if special or any(one.mixed for one in found):
        count = len(found) * len(Virtue) * (len(STRATEGIES) - 1)
        text += f" One in 20 of the {count} comparisons may be chance."
    if disturbed:
        text += " The machine was not left alone: measure again before you act on it."
    return text


def _with_gains(one: Choice, plan: StockPlan) -> str:
    return f"{plan.title(one.case)} ({_told(one.gains)}, beside {SIMPLEST})"


def _told(seen: Sequence[Difference]) -> str:
    return " and ".join(map(str, seen))
