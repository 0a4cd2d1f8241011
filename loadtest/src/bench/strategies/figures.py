"""From the raw figures of a cell to what people compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.figures import RESOLUTION_MS, Figure, cpu_ms, rate_figure, time_figure
from bench.latencies import quantile
from bench.plots import cpu_by_part
from bench.usage import base_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.strategies.plan import Case
    from bench.strategies.record import Cell, StockRecord, StockRepeat
    from shared.contracts.stock import StockStrategy

PARTS: Final = ("stock", "postgres", "valkey", "kafka")
"""Whose processor time is told."""


@dataclass(frozen=True, slots=True)
class CellFigures:
    """One strategy in one case."""

    case: Case
    strategy: StockStrategy
    per_second: Figure
    """Verdicts, from a backlog."""
    p50: Figure
    """Latency at the rate, ms."""
    p99: Figure
    cpu: Figure
    """Processor time of the whole stack for one verdict of a backlog, ms."""
    cpu_parts: Mapping[str, float]
    """The same by part, mean of the repeats; of all instances together."""
    conflicts: float
    """Share of a backlog's chunks that were folded again."""
    conflicts_at_rate: float
    lock_ms: float
    """What a chunk of a backlog waits for the locks of its products, mean."""
    lock_ms_at_rate: float
    turned_away: float
    """By the counter, share of a backlog's orders."""


def cell_figures(record: StockRecord) -> list[CellFigures]:
    """Those of all cells, in their order."""
    return [_of_cell(record, cell) for cell in record.cells]


def latencies(cell: Cell, share: float) -> list[float]:
    """The quantile at the rate in each round, ms."""
    return [float(quantile(one.done.latency_ms, share)) for one in cell.arrived]


def rates(cell: Cell) -> list[float]:
    """Verdicts a second from the backlog of each round."""
    return [one.done.per_second for one in cell.drained]


def _of_cell(record: StockRecord, cell: Cell) -> CellFigures:
    limits = record.limits
    name = f"{cell.supply}.{cell.contention}.{cell.strategy}"
    title = f"{record.plan.title(cell.case)}, {cell.strategy}"
    done = [one.done for one in cell.drained]
    costs = [cpu_ms(one) for one in done]
    p50, p99 = (
        time_figure(
            f"{name}.{label}", f"{title}, {label}", "ms", latencies(cell, share), "pgbench",
            limits, RESOLUTION_MS,
        )
        for label, share in (("p50", 0.5), ("p99", 0.99))
    )  # fmt: skip
    return CellFigures(
        case=cell.case,
        strategy=cell.strategy,
        per_second=rate_figure(f"{name}.per_second", title, "verdicts/s", rates(cell), limits),
        p50=p50,
        p99=p99,
        cpu=time_figure(f"{name}.cpu", f"{title}, CPU", "ms/verdict", costs, "loop", limits),
        cpu_parts=_by_part(cpu_by_part(done)),
        conflicts=_conflicts(cell.drained),
        conflicts_at_rate=_conflicts(cell.arrived),
        lock_ms=_lock_ms(cell.drained),
        lock_ms_at_rate=_lock_ms(cell.arrived),
        turned_away=_share(
            sum(one.tally.turned_away for one in cell.drained), sum(one.messages for one in done)
        ),
    )


def _by_part(parts: Mapping[str, float]) -> dict[str, float]:
    found = dict.fromkeys(PARTS, 0.0)
    for name, used_ms in parts.items():
        if (part := base_name(name)) in found:
            found[part] += used_ms
    return found


def _conflicts(repeats: Sequence[StockRepeat]) -> float:
    tallies = [one.tally for one in repeats]
    return _share(sum(one.conflicts for one in tallies), sum(one.chunks for one in tallies))


def _lock_ms(repeats: Sequence[StockRepeat]) -> float:
    tallies = [one.tally for one in repeats]
    return _share(sum(one.lock_s for one in tallies) * 1000, sum(one.chunks for one in tallies))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
