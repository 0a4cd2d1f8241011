"""The plots of a page about the strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.plots import COLOURS, new_axes, stacked_plot, svg
from bench.strategies.plan import CASES, STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.figures import Figure
    from bench.strategies.figures import CellFigures
    from bench.strategies.plan import StockPlan

COLOUR: Final = dict(zip(STRATEGIES, (COLOURS[0], COLOURS[3], COLOURS[1]), strict=True))
ROW_IN: Final = 0.24
EDGE: Final = 1.05
"""Of the highest value, where a plot ends."""
APART: Final = len(STRATEGIES) + 1
"""Rows from one case to the next."""


def throughput_plot(found: Sequence[CellFigures], plan: StockPlan) -> str:
    """Verdicts a second from a backlog, with spreads."""
    return _dots(found, plan, lambda one: [one.per_second], "verdicts a second, from a backlog")


def latency_plot(found: Sequence[CellFigures], plan: StockPlan) -> str:
    """p50 and p99 at the rate, with spreads."""
    label = f"ms to the verdict at {plan.rate} a second: p50 (open) and p99 (full)"
    return _dots(found, plan, lambda one: [one.p99, one.p50], label)


def cpu_plot(found: Sequence[CellFigures], plan: StockPlan) -> str:
    """Processor time of a verdict, by part."""
    bars = [(f"{plan.title(one.case)}, {one.strategy}", dict(one.cpu_parts)) for one in found]
    return stacked_plot(bars, "ms of processor time for one verdict of a backlog")


def _dots(
    found: Sequence[CellFigures],
    plan: StockPlan,
    of: Callable[[CellFigures], Sequence[Figure]],
    label: str,
) -> str:
    """A dot with its spread for each cell, by case; further figures of a cell have open dots."""
    axes = new_axes(0.8 + ROW_IN * APART * len(CASES))
    for one in found:
        colour = COLOUR[one.strategy]
        place = CASES.index(one.case) * APART + STRATEGIES.index(one.strategy)
        for number, figure in enumerate(of(one)):
            low, high = figure.spread.low, figure.spread.high
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=colour, linewidth=2.0, alpha=0.6)
            axes.plot(
                figure.spread.median, place, "o", color=colour, markersize=6,
                markerfacecolor="white" if number else colour,
                label=one.strategy if place < len(STRATEGIES) and not number else None,
            )  # fmt: skip
    middles = [place * APART + (len(STRATEGIES) - 1) / 2 for place in range(len(CASES))]
    axes.set_yticks(middles, [plan.title(case) for case in CASES])
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    # As far as anything was measured: of few repeats on a busy machine a spread has no end.
    most = max(value for one in found for figure in of(one) for value in figure.values)
    axes.set_xlim(0, most * EDGE)
    axes.set_xlabel(label)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(axes)
