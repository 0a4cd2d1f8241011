"""What changed from one run to another by more than the spread of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import Figure, Spread, figures

if TYPE_CHECKING:
    from bench.record import Record

NO_DIFFERENCE = "no difference seen"
TOO_FEW = "too few repeats"
BETTER, WORSE = "better", "worse"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs."""

    before: Figure
    after: Figure
    measured: Spread
    """After over before, as measured: 0.9 is a tenth less."""
    beside_machine: Spread
    """The same of the ratios to the yardstick; where there is none, as measured."""
    same_machine: bool

    @property
    def verdict(self) -> str:
        """Better or worse where the spreads lie apart, and the yardstick does not explain it.

        On one machine they have to lie apart as measured, too: a yardstick that was read wrong
        would else look like a change of the system.
        """
        seen = {_direction(self.beside_machine)}
        if self.same_machine:
            seen.add(_direction(self.measured))
        if None in seen:
            return TOO_FEW
        if len(seen) > 1 or 0 in seen:
            return NO_DIFFERENCE
        return BETTER if (seen == {1}) == (self.after.better == "more") else WORSE


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs."""

    changes: tuple[Change, ...]
    remarks: tuple[str, ...]
    """What makes the runs hard to compare."""


def compare(before: Record, after: Record) -> Comparison:
    """Figure by figure, those that both runs have."""
    old = {figure.key: figure for figure in figures(before)}
    same = before.machine == after.machine
    changes = tuple(
        _change(old[figure.key], figure, same_machine=same)
        for figure in figures(after)
        if figure.key in old
    )
    return Comparison(changes, tuple(_remarks(before, after)))


def _change(before: Figure, after: Figure, *, same_machine: bool) -> Change:
    measured = after.spread.over(before.spread)
    beside = measured
    if after.ratio is not None and before.ratio is not None:
        beside = after.ratio.over(before.ratio)
    return Change(before, after, measured, beside, same_machine)


def _direction(ratio: Spread) -> int | None:
    """1: rose, -1: fell, 0: the spreads overlap, None: there is none."""
    if ratio.low is None or ratio.high is None:
        return None
    return int(ratio.low > 1.0) - int(ratio.high < 1.0)


def _remarks(before: Record, after: Record) -> list[str]:
    found = []
    sizes = ("orders", "commands", "seconds", "pgbench_s", "pgbench_scale")
    other = [name for name in sizes if getattr(before.plan, name) != getattr(after.plan, name)]
    if other:
        found.append(f"the runs differ in {', '.join(other)}")
    if set(before.plan.rates) != set(after.plan.rates):
        found.append("the runs differ in their rates; those of both are compared")
    if before.machine != after.machine:
        found.append("the runs are of different machines or versions: the ratios alone count")
    return found
