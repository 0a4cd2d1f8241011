"""The plots of a page about the kinds of campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.campaigns.plan import title
from bench.dots import Dots, dots_plot
from bench.plots import stacked_plot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.campaigns.figures import CellFigures
    from bench.figures import Figure


def issued_plot(found: Sequence[CellFigures]) -> str:
    """Coupons a second, with spreads."""
    return _plot(found, lambda one: [one.issued], "coupons a second; of a lottery, from its draw")


def verdicts_plot(found: Sequence[CellFigures]) -> str:
    """Verdicts a second, with spreads."""
    return _plot(found, lambda one: [one.per_second], "verdicts a second; of a lottery, entries")


def latency_plot(found: Sequence[CellFigures]) -> str:
    """p50 and p99, with spreads."""
    label = "ms from a request to its verdict: p50 (open) and p99 (full)"
    return _plot(found, lambda one: [one.p99, one.p50], label)


def fairness_plot(found: Sequence[CellFigures]) -> str:
    """Users who were overtaken, with spreads."""
    return _plot(found, lambda one: [one.overtaken], "users overtaken")


def cpu_plot(found: Sequence[CellFigures]) -> str:
    """Processor time of a request, by part."""
    bars = [(one.title, dict(one.cpu_parts)) for one in found]
    return stacked_plot(bars, "ms of processor time for one request")


def _plot(
    found: Sequence[CellFigures], of: Callable[[CellFigures], Sequence[Figure]], label: str
) -> str:
    return dots_plot([Dots(title(one.keying), one.kind, of(one)) for one in found], label)
