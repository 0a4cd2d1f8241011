"""The plot of figures side by side: a dot with its spread for each way, by case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.plots import COLOURS, new_axes, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Figure

ROW_IN: Final = 0.24
EDGE: Final = 1.05
"""Of the highest value, where a plot ends."""
WAY_COLOURS: Final = (COLOURS[0], COLOURS[3], COLOURS[1], COLOURS[2], COLOURS[4], COLOURS[5])


class Dots(NamedTuple):
    """One way in one case."""

    case: str
    way: str
    figures: Sequence[Figure]
    """The first has a full dot, the others have open ones."""


def dots_plot(found: Sequence[Dots], label: str) -> str:
    """All of them: cases below each other, ways by colour, each in the order of the first case."""
    cases = list(dict.fromkeys(one.case for one in found))
    ways = list(dict.fromkeys(one.way for one in found))
    apart = len(ways) + 1
    axes = new_axes(0.8 + ROW_IN * apart * len(cases))
    for one in found:
        colour = WAY_COLOURS[ways.index(one.way)]
        place = cases.index(one.case) * apart + ways.index(one.way)
        for number, figure in enumerate(one.figures):
            low, high = figure.spread.low, figure.spread.high
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=colour, linewidth=2.0, alpha=0.6)
            axes.plot(
                figure.spread.median, place, "o", color=colour, markersize=6,
                markerfacecolor="white" if number else colour,
                label=one.way if place < len(ways) and not number else None,
            )  # fmt: skip
    middles = [place * apart + (len(ways) - 1) / 2 for place in range(len(cases))]
    axes.set_yticks(middles, cases)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    # As far as anything was measured: of few repeats on a busy machine a spread has no end.
    most = max(value for one in found for figure in one.figures for value in figure.values)
    axes.set_xlim(0, (most or 1) * EDGE)
    axes.set_xlabel(label)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(axes)
