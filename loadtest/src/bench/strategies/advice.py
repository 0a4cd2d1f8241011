"""What to choose when, worked out from what was measured. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bench.differences import NOT_LEFT_ALONE, by_chance, ratio_of, too_few
from bench.figures import RESOLUTION_MS
from bench.strategies.figures import latencies, rates
from bench.strategies.plan import CASES, STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.differences import Difference
    from bench.strategies.plan import Case, StockPlan
    from bench.strategies.record import Cell, StockRecord
    from shared.contracts.stock import StockStrategy

SIMPLEST: Final = STRATEGIES[0]


class Virtue(StrEnum):
    """What a strategy can be better in."""

    THROUGHPUT = "verdicts a second"
    LATENCY = "p99"


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
    return [
        ratio_of(Virtue.THROUGHPUT, rates(one), rates(other), "more"),
        ratio_of(Virtue.LATENCY, p99, others_p99, "less", RESOLUTION_MS),
    ]


def sentence(found: Sequence[Choice], plan: StockPlan, *, disturbed: bool = False) -> str:
    """What an operator should choose when, of the choices of all cases.

    `disturbed`: other programs were at work, or the machine's own speed moved.
    """
    if unknown := too_few(plan.repeats):
        return unknown
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
        text += f" {by_chance(count)}"
    if disturbed:
        text += f" {NOT_LEFT_ALONE}"
    return text


def _with_gains(one: Choice, plan: StockPlan) -> str:
    return f"{plan.title(one.case)} ({_told(one.gains)}, beside {SIMPLEST})"


def _told(seen: Sequence[Difference]) -> str:
    return " and ".join(map(str, seen))
