"""From raw figures to what people compare: medians, spreads, and ratios to the yardsticks."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from bench.latencies import quantile
from bench.usage import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.record import Limits, Phase, Record, Repeat

# Student's t, two-sided 95 %, by the number of values. From 10 on that of 10: wider than need be.
_T_95 = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
_T_95_MOST = 10
MIN_VALUES = 3
"""Two values say next to nothing of their spread: it would be 13 times as wide as they lie."""
RESOLUTION_MS = 1.0
"""Of the broker's timestamps."""

Better = Literal["more", "less"]
Yardstick = Literal["pgbench", "loop"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and how far it can be trusted."""

    median: float
    low: float | None
    """Lower end of the interval that holds the true middle with 95 %; None: too few values."""
    high: float | None

    def times(self, other: Spread) -> Spread:
        """The product, as wide as both allow."""
        return Spread(
            self.median * other.median,
            None if self.low is None or other.low is None else self.low * other.low,
            None if self.high is None or other.high is None else self.high * other.high,
        )

    def over(self, other: Spread) -> Spread:
        """The ratio, as wide as both allow. `other` is positive."""
        return Spread(
            self.median / other.median,
            None if self.low is None or other.high is None else self.low / other.high,
            None if self.high is None or other.low is None else _over(self.high, other.low),
        )

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return self.times(Spread(factor, factor, factor))


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured several times."""

    key: str
    title: str
    unit: str
    better: Better
    values: tuple[float, ...]
    spread: Spread
    yardstick: Yardstick | None
    """What of the machine it is put beside; None where the machine makes no difference."""
    ratio: Spread | None
    """A rate: share of the yardstick. A time: how often the yardstick runs in it."""


def _over(high: float, low: float) -> float:
    return high / low if low > 0 else math.inf


def spread(values: Sequence[float], resolution: float = 0.0) -> Spread:
    """Median and 95 % interval of values that are all positive.

    The interval is Student's, of the geometric mean: factors, not differences, are what machines
    vary by. `resolution` is the instrument's, and widens it. There is none of less than MIN_VALUES.
    Raises ValueError without values.
    """
    median = statistics.median(values)
    if len(values) < MIN_VALUES or min(values) <= 0:
        return Spread(median, None, None)
    logs = [math.log(value) for value in values]
    middle, half = statistics.fmean(logs), _half(logs)
    low, high = math.exp(middle - half), math.exp(middle + half)
    return Spread(median, max(min(low, median) - resolution, 0.0), max(high, median) + resolution)


def plain_spread(values: Sequence[float]) -> Spread:
    """Median and 95 % interval of values that may be 0 or less: Student's, of the mean.

    There is none of less than MIN_VALUES. Raises ValueError without values.
    """
    median, count = statistics.median(values), len(values)
    if count < MIN_VALUES:
        return Spread(median, None, None)
    middle, half = statistics.fmean(values), _half(values)
    return Spread(median, min(middle - half, median), max(middle + half, median))


def _half(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of at least MIN_VALUES values."""
    count = len(values)
    return _T_95[min(count, _T_95_MOST)] * statistics.stdev(values) / math.sqrt(count)


def reading(values: Sequence[float]) -> Spread:
    """A yardstick: from its lowest reading to its highest. It moves with the machine."""
    return Spread(statistics.median(values), min(values), max(values))


def figures(record: Record) -> list[Figure]:
    """All figures of a run, those first that matter most."""
    found: list[Figure] = []
    for phase in record.phases:
        found += _of_phase(phase, record.limits)
    return found


def _of_phase(phase: Phase, limits: Limits) -> list[Figure]:
    name, repeats, title = phase.name, phase.repeats, title_of(phase)
    each = "command" if phase.kind == "commands" else "order"
    found = []
    if phase.kind == "rate":
        title = f"at {phase.rate}/s"
    rates = [one.per_second for one in repeats]
    if phase.kind == "rate":
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            times = [float(quantile(one.latency_ms, share)) for one in repeats]
            key, text = f"{name}.{label}", f"{title}, {label}"
            found.append(time_figure(key, text, "ms", times, "pgbench", limits, RESOLUTION_MS))
        # Where the system keeps up it is the rate itself, whatever the machine.
        reached = spread(rates)
        found.append(
            Figure(
                f"{name}.per_second", f"{title}, reached", "orders/s", "more", tuple(rates),
                reached, None, None,
            )
        )  # fmt: skip
    else:
        found.append(rate_figure(f"{name}.per_second", title, f"{each}s/s", rates, limits))
    costs = [cpu_ms(one) for one in repeats]
    found.append(time_figure(f"{name}.cpu", f"{title}, CPU", f"ms/{each}", costs, "loop", limits))
    sizes = [one.wal_bytes / one.messages for one in repeats]
    found.append(
        Figure(
            f"{name}.wal", f"{title}, WAL", f"bytes/{each}", "less", tuple(sizes), spread(sizes),
            None, None,
        )
    )  # fmt: skip
    return found


def rate_figure(key: str, title: str, unit: str, values: Sequence[float], limits: Limits) -> Figure:
    """Something a second, beside pgbench's transactions."""
    found = spread(values)
    ratio = found.over(reading(limits.pgbench_tps))
    return Figure(key, title, unit, "more", tuple(values), found, "pgbench", ratio)


def count_figure(key: str, title: str, unit: str, values: Sequence[float], most: float) -> Figure:
    """How many, from 0 to `most`. The machine has no part in it."""
    found = plain_spread(values)
    if found.low is not None and found.high is not None:
        found = replace(found, low=max(found.low, 0.0), high=min(found.high, most))
    return Figure(key, title, unit, "less", tuple(values), found, None, None)


def time_figure(
    key: str, title: str, unit: str, values: Sequence[float], yardstick: Yardstick, limits: Limits,
    resolution: float = 0.0,
) -> Figure:  # fmt: skip
    """A time in ms, beside how often the yardstick runs in it."""
    found = spread(values, resolution)
    limit = reading(limits.pgbench_tps if yardstick == "pgbench" else limits.loop_per_s)
    ratio = found.scaled(0.001).times(limit)
    return Figure(key, title, unit, "less", tuple(values), found, yardstick, ratio)


def title_of(phase: Phase) -> str:
    """What people call the phase."""
    if phase.kind == "rate":
        return f"{phase.rate} orders/s"
    return {"drain": "orders drained", "commands": "stock drained"}[phase.kind]


def cpu_ms(done: Repeat) -> float:
    """Processor time that the stack used for one message, ms; the benchmark's own left out."""
    used = sum(seconds for name, seconds in done.usage.cpu_s.items() if name != OWN)
    return used / done.messages * 1000


def drift(values: Sequence[float]) -> float:
    """How far the readings of a yardstick lie apart: 1.1 is a tenth."""
    return max(values) / min(values)
