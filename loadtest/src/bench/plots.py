"""The plots of a page, as SVG that stands in it."""

from __future__ import annotations

import hashlib
import io
import math
import re
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from bench.figures import title_of
from bench.latencies import curve, merged
from bench.record import BIN_MS
from bench.usage import OWN, base_name
from orderctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from bench.compare import Change
    from bench.record import Phase, Record, Repeat

COLOURS = ("#2364aa", "#d1495b", "#3a7d44", "#e09f3e", "#6d597a", "#4a8fa3", "#8d6b48", "#777777")
PARTS = {
    "order-orchestrator": "#2364aa",
    "stock": "#3a7d44",
    "payment": "#e09f3e",
    "coupon": "#8d6b48",
    "postgres": "#6d597a",
    "kafka": "#d1495b",
    "valkey": "#4a8fa3",
    "gateway": "#b56576",
    "storefront": "#c77dba",
    "k6": "#7aa095",
    "supervisor": "#222222",
    OWN: "#999999",
    "others": "#cccccc",
    "stolen": "#f2c6c6",
}
"""Name of a part, without its number -> its colour on every plot, in the order of the legend."""
TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
WIDE_TICKS = (0.01, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0)
SMALLEST_SHARE = 0.003
"""Of a bar, below which a part is left out of it: nobody would see it."""
WIDTH_IN = 8.2

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def latency_plot(record: Record) -> str:
    """One curve a rate, of all repeats together; each repeat faint behind it."""
    axes = new_axes(3.6)
    for phase, colour in zip(_rates(record), cycle(COLOURS), strict=False):
        for one in phase.repeats:
            axes.step(*curve(one.latency_ms), color=colour, alpha=0.25, linewidth=0.9, where="pre")
        together = merged(one.latency_ms for one in phase.repeats)
        axes.step(*curve(together), color=colour, label=title_of(phase), linewidth=1.8, where="pre")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percentile_name(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("share of orders that were faster")
    axes.set_ylabel("ms from PlaceOrder to outcome")
    axes.legend(loc="upper left")
    return svg(axes)


def percentile_name(one_in: float) -> str:
    """What is called p99 is slower than 99 of 100: `one_in` 100 is `99 %`."""
    return f"{(1 - 1 / one_in) * 100:.6g} %"


def drain_plot(record: Record) -> str:
    """Orders that ended in each bin, a second, one line a repeat."""
    axes = new_axes(3.0)
    for n, one in enumerate(record.phase("drain").repeats):
        whole = one.bins[:-1] or one.bins  # the last bin is not full
        moments = [(place + 0.5) * BIN_MS / 1000 for place in range(len(whole))]
        rates = [count * 1000 / BIN_MS for count in whole]
        axes.plot(moments, rates, color=COLOURS[n % len(COLOURS)], label=f"round {n + 1}")
    limit = sorted(record.limits.pgbench_tps)
    axes.axhspan(limit[0], limit[-1], color="#999999", alpha=0.25, linewidth=0)
    axes.axhline(limit[0], color="#999999", linewidth=0.8, label="pgbench -N")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the first outcome")
    axes.set_ylabel("orders a second")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(axes)


def cpu_plot(record: Record) -> str:
    """Processor time of one message by part, mean of the repeats, a panel a phase."""
    rows = math.ceil(len(record.phases) / 2)
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=(WIDTH_IN, 2.3 * rows), layout="constrained")
        panels = canvas.subplots(rows, 2, squeeze=False).flatten()
    for panel, phase in zip(panels, record.phases, strict=False):
        parts = in_order(cpu_by_part(phase.repeats))
        panel.barh(
            list(map(drawn, parts)), list(parts.values()), color=[colour_of(name) for name in parts]
        )
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set_title(title_of(phase), fontsize=10, loc="left")
        each = "command" if phase.kind == "commands" else "order"
        panel.set_xlabel(f"ms of processor time for one {each}")
    for panel in panels[len(record.phases) :]:
        panel.set_visible(False)
    return svg(panels[0])


def cores_plot(record: Record) -> str:
    """How much of the machine was in use while each phase ran, and by whom."""
    bars = []
    for phase in record.phases:
        found = {name: 0.0 for one in phase.repeats for name in one.usage.cpu_s}
        found |= {"others": 0.0, "stolen": 0.0}
        for one in phase.repeats:
            used = one.usage.cpu_s | {
                "others": max(one.usage.others_s, 0.0),
                "stolen": one.usage.stolen_s,
            }
            for name, seconds in used.items():
                found[name] += seconds / max(one.usage.window_s, 1e-9) / len(phase.repeats)
        bars.append((title_of(phase), found))
    return stacked_plot(bars, f"cores in use, of {record.machine.cores}", record.machine.cores)


def cpu_by_part(repeats: Sequence[Repeat]) -> dict[str, float]:
    """Milliseconds for one message, mean of the repeats; the benchmark's own left out."""
    found: dict[str, float] = {}
    for one in repeats:
        for name, seconds in one.usage.cpu_s.items():
            if name != OWN:
                share = seconds * 1000 / one.messages / len(repeats)
                found[name] = found.get(name, 0.0) + share
    return found


def change_plot(changes: Sequence[Change]) -> str:
    """After over before beside the machine, with its spread; 1 is no change."""
    axes = new_axes(0.9 + 0.34 * len(changes))
    for place, change in enumerate(changes):
        found = change.beside_machine
        colour = {"better": COLOURS[2], "worse": COLOURS[1]}.get(change.verdict, "#777777")
        for spread, line, width in ((change.measured, ":", 1.2), (found, "-", 2.2)):
            if spread.low and spread.high is not None and math.isfinite(spread.high):
                ends = [spread.low, spread.high]
                axes.plot(ends, [place, place], line, color=colour, linewidth=width)
        axes.plot([found.median], [place], "o", color=colour, markersize=6)
    axes.axvline(1.0, color="#333333", linewidth=0.8)
    axes.set_xscale("log")
    low, high = (min(axes.get_xlim()[0], 0.8), max(axes.get_xlim()[1], 1.25))
    ticks = [tick for tick in (WIDE_TICKS if high / low > 4 else TICKS) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(changes)), [drawn(change.after.title) for change in changes])
    axes.invert_yaxis()
    axes.set_xlabel("after over before, beside the machine (1: no change)")
    return svg(axes)


def stacked_plot(
    bars: Sequence[tuple[str, dict[str, float]]], label: str, limit: float | None = None
) -> str:
    """Named bars of parts, and the limit of all where there is one."""
    axes = new_axes(0.9 + 0.42 * len(bars))
    names = list(in_order({name: 0.0 for _, parts in bars for name in parts}))
    longest = limit or max(sum(parts.values()) for _, parts in bars)
    left = [0.0] * len(bars)
    for name in names:
        widths = [parts.get(name, 0.0) for _, parts in bars]
        if max(widths) < longest * SMALLEST_SHARE:
            continue
        places = range(len(bars))
        axes.barh(places, widths, left=left, color=colour_of(name), label=drawn(name), height=0.66)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    if limit is not None:
        axes.axvline(limit, color="#333333", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(axes)


def drawn(name: str) -> str:
    """A name out of a file as a plot can draw it: no font has control characters, and what stands
    between dollar signs is set as a formula."""
    return visible(name).replace("$", r"\$")


def in_order(parts: dict[str, float]) -> dict[str, float]:
    """Parts as legends list them."""
    order = {name: place for place, name in enumerate(PARTS)}
    return dict(
        sorted(parts.items(), key=lambda one: (order.get(base_name(one[0]), len(order)), one[0]))
    )


def colour_of(name: str) -> str:
    """Of a part, on every plot."""
    return PARTS.get(base_name(name), COLOURS[-1])


def new_axes(height_in: float) -> Axes:
    """One plot of a page, as wide as the page."""
    with mpl.rc_context(_STYLE):
        axes: Axes = Canvas(figsize=(WIDTH_IN, height_in)).subplots()
        return axes


def svg(axes: Axes) -> str:
    """Without a prologue, and with ids that no other plot on the page has."""
    canvas = axes.get_figure(root=True)
    if canvas is None:
        raise ValueError("these axes belong to no figure")
    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        canvas.savefig(
            out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    own = f"p{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    text = re.sub(r'\bid="', f'id="{own}', text)
    text = re.sub(r'xlink:href="#', f'xlink:href="#{own}', text)
    return re.sub(r"url\(#", f"url(#{own}", text)


def _rates(record: Record) -> list[Phase]:
    return [phase for phase in record.phases if phase.kind == "rate"]
