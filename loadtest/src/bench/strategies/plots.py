"""The plots of a page about the strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.dots import Dots, dots_plot
from bench.plots import stacked_plot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.figures import Figure
    from bench.strategies.figures import CellFigures
    from bench.strategies.plan import StockPlan


def throughput_plot(found: Sequence[CellFigures], plan: StockPlan) -> str:
    """Verdicts a second from a backlog, with spreads."""
    dots = _dots(found, plan, lambda one: [one.per_second])
    return dots_plot(dots, "verdicts a second, from a backlog")


def latency_plot(found: Sequence[CellFigures], plan: StockPlan) -> str:
    """p50 and p99 at the rate, with spreads."""
    dots = _dots(found, plan, lambda one: [one.p99, one.p50])
    return dots_plot(dots, f"ms to the verdict at {plan.rate} a second: p50 (open) and p99 (full)")


def cpu_plot(found: Sequence[CellFigures]) -> str:
    """Processor time of a verdict, by part."""
    bars = [(one.title, dict(one.cpu_parts)) for one in found]
    return stacked_plot(bars, "ms of processor time for one verdict of a backlog")


def _dots(
    found: Sequence[CellFigures],
    plan: StockPlan,
    of: Callable[[CellFigures], Sequence[Figure]],
) -> list[Dots]:
    return [Dots(plan.title(one.case), one.strategy, of(one)) for one in found]
