"""From the raw figures of a cell to what people compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.cells import CommonFigures, common_figures, quantiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.strategies.plan import Case
    from bench.strategies.record import Cell, StockRecord, StockRepeat
    from shared.contracts.stock import StockStrategy

PARTS: Final = ("stock", "postgres", "valkey", "kafka")
"""Whose processor time is told."""


@dataclass(frozen=True, kw_only=True)
class CellFigures(CommonFigures):
    """One strategy in one case: rates and processor times from a backlog, latencies at the rate."""

    case: Case
    strategy: StockStrategy
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
    return quantiles([one.done for one in cell.arrived], share)


def rates(cell: Cell) -> list[float]:
    """Verdicts a second from the backlog of each round."""
    return [one.done.per_second for one in cell.drained]


def _of_cell(record: StockRecord, cell: Cell) -> CellFigures:
    done = [one.done for one in cell.drained]
    common = common_figures(
        f"{cell.supply}.{cell.contention}.{cell.strategy}",
        f"{record.plan.title(cell.case)}, {cell.strategy}",
        record.limits,
        drained=done,
        arrived=[one.done for one in cell.arrived],
        parts=PARTS,
    )
    return CellFigures(
        **vars(common),
        case=cell.case,
        strategy=cell.strategy,
        conflicts=_conflicts(cell.drained),
        conflicts_at_rate=_conflicts(cell.arrived),
        lock_ms=_lock_ms(cell.drained),
        lock_ms_at_rate=_lock_ms(cell.arrived),
        turned_away=_share(
            sum(one.tally.turned_away for one in cell.drained), sum(one.messages for one in done)
        ),
    )


def _conflicts(repeats: Sequence[StockRepeat]) -> float:
    tallies = [one.tally for one in repeats]
    return _share(sum(one.conflicts for one in tallies), sum(one.chunks for one in tallies))


def _lock_ms(repeats: Sequence[StockRepeat]) -> float:
    tallies = [one.tally for one in repeats]
    return _share(sum(one.lock_s for one in tallies) * 1000, sum(one.chunks for one in tallies))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
