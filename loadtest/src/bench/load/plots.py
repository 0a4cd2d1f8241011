"""The plots of a load test: everything over the same seconds."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from matplotlib.ticker import FuncFormatter

from bench.load.series import DURATION
from bench.plots import COLOURS, SMALLEST_SHARE, colour_of, drawn, in_order, new_axes, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from bench.load.record import Loaded, LoadRecord, Moment

HEIGHT_IN: Final = 2.7
GAPS: Final = float("nan")
"""Where nothing was counted, a line has a gap."""


def rate_plot(loaded: Loaded) -> str:
    """Requests and journeys a second, and the users who made them, on an axis of their own."""
    axes = _over_time(loaded)
    times = _times(loaded.moments)
    for label, counts, colour in (
        ("requests/s", [one.requests / one.took_s for one in loaded.moments], COLOURS[0]),
        ("journeys/s", [one.journeys / one.took_s for one in loaded.moments], COLOURS[2]),
    ):
        axes.plot(times, counts, color=colour, label=label, linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("a second")
    users = axes.twinx()
    users.plot(
        times, [one.users for one in loaded.moments], color="#777777", linestyle="--",
        label="users (right)", linewidth=1.2,
    )  # fmt: skip
    users.set_ylim(bottom=0)
    users.grid(visible=False)
    lines = [*axes.get_lines(), *users.get_lines()]
    axes.legend(lines, [str(one.get_label()) for one in lines], **_BESIDE)
    return svg(axes)


def latency_plot(record: LoadRecord) -> str:
    """The percentiles of each period, and the limit of the run where it has one."""
    moments = record.loaded.moments
    axes = _over_time(record.loaded)
    for label, values, colour in (
        ("p99", [one.p99_ms for one in moments], COLOURS[1]),
        ("p95", [one.p95_ms for one in moments], COLOURS[3]),
        ("p50", [one.p50_ms for one in moments], COLOURS[0]),
    ):
        axes.plot(_times(moments), list(map(_or_gap, values)), color=colour, label=label)
    for one in record.loaded.thresholds:
        if one.metric == DURATION and one.limit.startswith("p(95)<"):
            limit_ms = float(one.limit.partition("<")[2])
            axes.axhline(limit_ms, color="#333333", linestyle="--", linewidth=0.8)
    _in_ms(axes)
    return svg(axes)


def routes_plot(loaded: Loaded) -> str:
    """The p95 of each route in each period."""
    axes = _over_time(loaded)
    names = sorted({name for one in loaded.moments for name in one.routes_p95_ms})
    for name, colour in zip(names, cycle(COLOURS), strict=False):
        values = [_or_gap(one.routes_p95_ms.get(name)) for one in loaded.moments]
        axes.plot(_times(loaded.moments), values, color=colour, label=drawn(name), linewidth=1.3)
    _in_ms(axes)
    return svg(axes)


def errors_plot(loaded: Loaded) -> str:
    """Steps that failed, as a share of each period's."""
    axes = _over_time(loaded)
    shares = [one.errors * 100 for one in loaded.moments]
    axes.fill_between(_times(loaded.moments), shares, color=COLOURS[1], step="pre", linewidth=0)
    axes.set_ylim(0, max(*shares, 0.1, 0.0) * 1.1)
    axes.set_ylabel("% of steps")
    return svg(axes)


def lag_plot(loaded: Loaded) -> str:
    """Messages that wait, by consumer group; groups that never had any are left out."""
    axes = _over_time(loaded)
    known = [one for one in loaded.samples if one.lag]
    names = sorted({name for one in known for name, lag in one.lag.items() if lag})
    for name, colour in zip(names, cycle(COLOURS), strict=False):
        lags = [one.lag.get(name, 0) for one in known]
        axes.plot([one.at_s for one in known], lags, color=colour, label=drawn(name), linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("messages")
    if names:
        axes.legend(**_BESIDE)
    return svg(axes)


def cores_plot(record: LoadRecord) -> str:
    """Processors in use by part, on top of each other; the dashed line is all there are."""
    samples, cores = record.loaded.samples, record.machine.cores
    axes = _over_time(record.loaded)
    parts = list(in_order({name: 0.0 for one in samples for name in one.cores}))
    series = {name: [one.cores.get(name, 0.0) for one in samples] for name in parts}
    shown = {
        name: values
        for name, values in series.items()
        if max(values, default=0.0) >= cores * SMALLEST_SHARE
    }
    if shown:
        axes.stackplot(
            [one.at_s for one in samples], list(shown.values()), labels=list(map(drawn, shown)),
            colors=[colour_of(name) for name in shown], linewidth=0,
        )  # fmt: skip
        axes.legend(reverse=True, **_BESIDE)
    axes.axhline(cores, color="#333333", linestyle="--", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"cores in use, of {cores}")
    return svg(axes)


_BESIDE: Final[dict[str, Any]] = {"loc": "center left", "bbox_to_anchor": (1.08, 0.5)}


def _over_time(loaded: Loaded) -> Axes:
    axes = new_axes(HEIGHT_IN)
    axes.set_xlabel("seconds since the start")
    axes.set_xlim(0, max(loaded.took_s, 1.0))
    return axes


def _times(moments: Sequence[Moment]) -> list[float]:
    """The middle of each period."""
    return [one.at_s - one.took_s / 2 for one in moments]


def _or_gap(value: float | None) -> float:
    return value or GAPS  # a logarithmic axis has no place for 0


def _in_ms(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("ms")
    axes.legend(**_BESIDE)
