"""What a run and a comparison look like in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.figures import Figure, Spread, drift, figures, reading
from orderctl.terminal import cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from bench.compare import Comparison
    from bench.record import Limits, Record

CALM = 1.1
"""A machine whose yardstick moved by less is called calm."""


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def count(value: float) -> str:
    """A number of things; a median of two may lie between."""
    return f"{value:,.1f}".removesuffix(".0")


def interval(found: Spread) -> str:
    """`1.2 to 1.4`, or a dash where there are too few repeats."""
    if found.low is None or found.high is None:
        return "-"
    return f"{number(found.low)} to {number(found.high)}"


def ratio(figure: Figure) -> str:
    """The ratio and what it is to."""
    if figure.ratio is None:
        return "-"
    what = {"pgbench": "transactions", "loop": "loops"}[figure.yardstick or "pgbench"]
    if figure.better == "less":
        return f"{number(figure.ratio.median)} {what}"
    return f"{number(figure.ratio.median)} of pgbench"


def limits_lines(limits: Limits) -> list[str]:
    """The yardsticks, and whether they stood still."""
    lines = []
    for name, unit, values in (
        ("pgbench -N", "transactions/s", limits.pgbench_tps),
        ("loop in Python", "rounds/s", limits.loop_per_s),
    ):
        found = reading(values)
        lines.append(
            f"{name}: {number(found.median)} {unit}, {len(values)} readings"
            f" of {interval(found)} (apart by {(drift(values) - 1) * 100:.0f} %)"
        )
    if not calm(limits):
        lines.append(
            "The machine was not calm: its own speed moved, and the ratios are as wide as that."
        )
    return lines


def calm(limits: Limits) -> bool:
    """Whether both yardsticks stood still within a tenth."""
    return max(drift(limits.pgbench_tps), drift(limits.loop_per_s)) <= CALM


def print_run(console: Console, record: Record) -> None:
    """All figures."""
    table = Table(title="Figures", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    for column in ("median", "spread (95 %)", "beside the machine", "spread"):
        table.add_column(column, justify="right")
    for figure in figures(record):
        table.add_row(
            cell(figure.title),
            cell(f"{number(figure.spread.median)} {figure.unit}"),
            cell(interval(figure.spread)),
            cell(ratio(figure)),
            cell(interval(figure.ratio) if figure.ratio else "-"),
        )
    console.print(table)
    for line in limits_lines(record.limits):
        console.print(cell(line))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in the text that a page of the project takes."""
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def print_cases(
    console: Console,
    widths: Mapping[str, int],
    cases: Iterable[tuple[str, Iterable[Sequence[str]]]],
) -> None:
    """Rows by case, below each other; `widths` are the columns, whose names stand once."""
    for turn, (title, rows) in enumerate(cases):
        shown = Table(
            title=title, title_justify="left", title_style="bold", box=None, padding=0,
            show_header=turn == 0,
        )  # fmt: skip
        for place, (name, width) in enumerate(widths.items()):
            shown.add_column(name, width=width, justify="right" if place else "left")
        for row in rows:
            shown.add_row(*map(cell, row))
        console.print(shown)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """What changed, as ratios: after over before."""
    table = Table(
        title="After over before, as measured and beside the machine",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for name in ("before", "after", "measured", "beside"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("spread", justify="right")
    table.add_column("", min_width=13)
    for change in comparison.changes:
        table.add_row(
            cell(change.after.title),
            cell(number(change.before.spread.median)),
            cell(number(change.after.spread.median)),
            cell(f"{change.measured.median:.2f}"),
            cell(f"{change.beside_machine.median:.2f}"),
            cell(interval(change.beside_machine)),
            cell(change.verdict),
        )
    console.print(table)
    for remark in comparison.remarks:
        console.print(cell(remark))
