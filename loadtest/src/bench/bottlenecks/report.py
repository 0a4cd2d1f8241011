"""The figures of a run of the bottlenecks as tables, in the text that a page of the project has."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from bench.bottlenecks.figures import LEAST_TURNS, figures
from bench.compare import BETTER, NO_DIFFERENCE, WORSE
from bench.text import interval, limits_lines, markdown_table, number

if TYPE_CHECKING:
    from rich.console import Console

    from bench.bottlenecks.figures import Beside
    from bench.bottlenecks.record import BottlenecksRecord, PairTurns, SideName

VERDICTS: Final = {1: BETTER, -1: WORSE, 0: NO_DIFFERENCE}
IN_VERDICT: Final = 9
"""Figures of a pair that its verdict names: all but the processor time of single parts."""
COMPLAINTS: Final = 3
"""Of a side, the most frequent."""
HOW_READ: Final = (
    "Each figure is the median of its turns, with the lowest and the highest of them; the ratio is"
    " as wide as both allow. It is better or worse where these lie apart and it is a tenth or more"
    " away from 1 (errors: where they are 1 % of all steps apart); all else is no difference seen."
    " Of two turns each side, chance alone puts every third figure apart, of three every tenth."
)


def print_bottlenecks(screen: Console, record: BottlenecksRecord) -> None:
    """To the terminal, as Markdown."""
    for line in limits_lines(record.limits):
        screen.print(line, markup=False)
    screen.print()
    screen.print(markdown(record), markup=False, soft_wrap=True)
    screen.print()
    holds = f"all {len(record.checked)} checks of the system hold"
    for line in [f"FAILED: {one}" for one in record.failures] or [holds]:
        screen.print(line, markup=False, soft_wrap=True)


def markdown(record: BottlenecksRecord) -> str:
    """How to read it, and a table for each pair."""
    return "\n\n".join([HOW_READ, *(_pair(pair) for pair in record.pairs)])


def verdict(pair: PairTurns) -> str:
    """What a pair shows, in one line."""
    if not _several(pair):
        return "one turn of each side has no spread, so that nothing can be told"
    seen = [one for one in figures(pair)[:IN_VERDICT] if one.judged]
    if not seen:
        return f"{NO_DIFFERENCE} between the two"
    told = (f"{VERDICTS[one.judged]} in {one.title}{_times(one)}" for one in seen)
    return f"now {'; '.join(told)}"


def _pair(pair: PairTurns) -> str:
    rows = [
        (
            f"{one.title}, {one.unit}",
            *(
                cell
                for side in (one.before, one.now)
                for cell in (number(side.median), interval(side))
            ),
            _ratio(one),
            interval(one.ratio) if one.ratio else "-",
            VERDICTS[one.judged] if _several(pair) else "-",
        )
        for one in figures(pair)
    ]
    head = ("", "before", "spread", "now", "spread", "now/before", "spread", "")
    told = [
        f"**{pair.name}**: `{pair.before}`, now `{pair.now}`. {pair.shows}",
        markdown_table(head, rows),
    ]
    sides: tuple[SideName, ...] = ("before", "now")
    told += [f"Answered instead, {side}: {said}." for side in sides if (said := _said(pair, side))]
    return "\n\n".join([*told, f"{pair.name}: {verdict(pair)}."])


def _several(pair: PairTurns) -> bool:
    """Whether there are turns enough to judge by."""
    return len(pair.turns) >= 2 * LEAST_TURNS


def _ratio(one: Beside) -> str:
    return number(one.ratio.median) if one.ratio else "-"


def _times(one: Beside) -> str:
    if one.ratio:
        return f" ({_ratio(one)} times)"
    return f" ({number(one.before.median)} {one.unit} before, {number(one.now.median)} now)"


def _said(pair: PairTurns, side: SideName) -> str:
    """What was answered instead of what may be, and how often."""
    found = Counter[str]()
    for turn in pair.turns:
        if turn.side == side:
            found.update(turn.complaints)
    return "; ".join(f"{times:,} times {what}" for what, times in found.most_common(COMPLAINTS))
