"""What is figured of every cell where several ways are put side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import RESOLUTION_MS, Figure, cpu_ms, rate_figure, time_figure
from bench.latencies import quantile
from bench.plots import cpu_by_part
from bench.usage import base_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.record import Limits, Repeat


@dataclass(frozen=True, kw_only=True)
class CommonFigures:
    """One way in one case."""

    title: str
    per_second: Figure
    """Verdicts."""
    p50: Figure
    """Latency, ms."""
    p99: Figure
    cpu: Figure
    """Processor time of the whole stack for one verdict, ms."""
    cpu_parts: Mapping[str, float]
    """The same by part, mean of the repeats; of all instances together."""


def common_figures(
    key: str,
    title: str,
    limits: Limits,
    *,
    drained: Sequence[Repeat],
    arrived: Sequence[Repeat],
    parts: Sequence[str],
) -> CommonFigures:
    """Rates and processor times are those of `drained`, latencies those of `arrived`."""
    p50, p99 = (
        time_figure(
            f"{key}.{label}", f"{title}, {label}", "ms", quantiles(arrived, share), "pgbench",
            limits, RESOLUTION_MS,
        )
        for label, share in (("p50", 0.5), ("p99", 0.99))
    )  # fmt: skip
    rates, costs = [one.per_second for one in drained], [cpu_ms(one) for one in drained]
    return CommonFigures(
        title=title,
        per_second=rate_figure(f"{key}.per_second", title, "verdicts/s", rates, limits),
        p50=p50,
        p99=p99,
        cpu=time_figure(f"{key}.cpu", f"{title}, CPU", "ms/verdict", costs, "loop", limits),
        cpu_parts=_by_part(cpu_by_part(drained), parts),
    )


def quantiles(repeats: Sequence[Repeat], share: float) -> list[float]:
    """The quantile of the latencies of each repeat, ms."""
    return [float(quantile(one.latency_ms, share)) for one in repeats]


def _by_part(used_ms: Mapping[str, float], parts: Sequence[str]) -> dict[str, float]:
    found = dict.fromkeys(parts, 0.0)
    for name, used in used_ms.items():
        if (part := base_name(name)) in found:
            found[part] += used
    return found
