"""From the raw figures of a cell to what people compare."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Final

from bench.campaigns.plan import title
from bench.cells import CommonFigures, common_figures
from bench.figures import Figure, count_figure, rate_figure

if TYPE_CHECKING:
    from bench.campaigns.plan import Keying
    from bench.campaigns.record import Cell, CouponRecord
    from shared.contracts.coupon import CampaignKind

PARTS: Final = ("coupon", "postgres", "valkey", "kafka")
"""Whose processor time is told."""


@dataclass(frozen=True, kw_only=True)
class CellFigures(CommonFigures):
    """One kind in one situation. The verdict on who enters a lottery is that they entered."""

    kind: CampaignKind
    keying: Keying
    issued: Figure
    """Coupons a second, from the first request on; of a lottery, from the draw on."""
    overtaken: Figure
    """Users who got nothing while somebody who came later got a coupon."""
    inversions: Figure
    """Pairs of coupons against the order in which their users came."""
    early: Figure
    """Coupons that went to the earlier half of the users."""
    asked_in_ms: float
    """From the first request to the last, median."""
    moments: float
    """Different milliseconds in which requests were stored, median."""


def cell_figures(record: CouponRecord) -> list[CellFigures]:
    """Those of all cells, in their order."""
    return [_of_cell(record, cell) for cell in record.cells]


def _of_cell(record: CouponRecord, cell: Cell) -> CellFigures:
    key, name = f"{cell.keying}.{cell.kind}", f"{title(cell.keying)}, {cell.kind}"
    rushes, done = cell.rushes, [one.done for one in cell.rushes]
    plan = record.plan
    common = common_figures(key, name, record.limits, drained=done, arrived=done, parts=PARTS)
    issued = [one.issued_per_second for one in rushes]
    return CellFigures(
        **vars(common),
        kind=cell.kind,
        keying=cell.keying,
        issued=rate_figure(f"{key}.issued", name, "coupons/s", issued, record.limits),
        overtaken=count_figure(
            f"{key}.overtaken", name, "users", [one.overtaken for one in rushes],
            most=plan.users - plan.coupons,
        ),
        inversions=count_figure(
            f"{key}.inversions", name, "pairs", [one.inversions for one in rushes],
            most=comb(plan.coupons, 2),
        ),
        early=count_figure(
            f"{key}.early", name, "coupons", [one.early for one in rushes], most=plan.coupons
        ),
        asked_in_ms=statistics.median(one.asked_in_ms for one in rushes),
        moments=statistics.median(one.moments for one in rushes),
    )  # fmt: skip
