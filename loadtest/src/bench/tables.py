"""The tables of a page that puts several ways side by side."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bench.compare import BETTER, NO_DIFFERENCE, WORSE
from bench.markup import table
from bench.text import interval, number, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.cells import CommonFigures
    from bench.differences import Judged
    from bench.figures import Figure

_VERDICTS = {1: BETTER, -1: WORSE, 0: NO_DIFFERENCE}


def rates_table(found: Iterable[tuple[str, Figure]], unit: str) -> str:
    """Titles and rates, beside the machine."""
    rows = [
        (
            escape(title),
            number(one.spread.median),
            interval(one.spread),
            escape(ratio(one)),
            ", ".join(map(number, one.values)),
        )
        for title, one in found
    ]
    return table(("", unit, "spread", "beside the machine", "each time"), rows)


def latency_table(found: Iterable[CommonFigures]) -> str:
    """p50 and p99, beside the machine."""
    rows = [
        (
            escape(one.title),
            *(
                text
                for figure in (one.p50, one.p99)
                for text in (
                    number(figure.spread.median),
                    interval(figure.spread),
                    escape(ratio(figure)),
                )
            ),
        )
        for one in found
    ]
    head = ("ms", "p50", "spread", "in pgbench's", "p99", "spread", "in pgbench's")
    return table(head, rows)


def cpu_table(found: Iterable[CommonFigures], unit: str, parts: Sequence[str]) -> str:
    """Processor time, whole and by part."""
    rows = [
        (
            escape(one.title),
            number(one.cpu.spread.median),
            interval(one.cpu.spread),
            *(number(one.cpu_parts[part]) for part in parts),
        )
        for one in found
    ]
    return table((unit, "whole stack", "spread", *parts), rows)


def judged_table(beside: str, found: Iterable[tuple[str, Judged]], head: str) -> str:
    """Every comparison that an advice rests on; `head` stands over what was found."""
    rows = []
    for title, one in found:
        verdict = _VERDICTS[one.judged]
        cells = map(escape, (title, *one.cells))
        rows.append((*cells, f'<span class="{verdict.split(" ")[0]}">{verdict}</span>'))
    return table((f"beside {beside}", "", head, "spread", ""), rows)
