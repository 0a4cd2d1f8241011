"""Keeps counters and rows the same, and finds Redis again when it is back.

A counter differs from its row while an order is under way between the two: it is wrong where both
stand still and differ. Then, and where it is lost or of another fence, it is written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.contracts.base import MAX_TOTAL
from shared.redis import RedisAwayError, Standstill
from stock.metrics import DRIFT
from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database import Pool
    from shared.lease import Lease
    from stock.admitter import Admitter
    from stock.records import Fence, Product

LEASE: Final = "stock.counters"
COUNTERS_AT_ONCE: Final = 500


class Reconciler:
    """One pass after the other; only the holder of the lease writes."""

    def __init__(self, admitter: Admitter, pool: Pool, lease: Lease) -> None:
        """`lease` lasts several passes."""
        self._admitter = admitter
        self._pool = pool
        self._lease = lease
        self._still = Standstill()

    async def run_once(self) -> int:
        """Compare all counters; returns how many were written anew."""
        try:
            if self._admitter.reach.is_away:
                await self._admitter.reach.find()
            if await self._lease.take() is None:
                self._still.keep_only(())
                return 0
            async with self._pool.acquire() as connection:
                rows = await Store(connection).hot_products()
            self._admitter.learn(rows)
            self._still.keep_only({row.product_id for row in rows})
            written = 0
            for start in range(0, len(rows), COUNTERS_AT_ONCE):
                written += await self._compare(rows[start : start + COUNTERS_AT_ONCE])
        except RedisAwayError as error:
            self._admitter.reach.lost(error)
            return 0
        return written

    async def _compare(self, rows: Sequence[Product]) -> int:
        levels = await self._admitter.counters.read([row.product_id for row in rows])
        closed: dict[str, Fence] = {}
        wrong: dict[str, Fence] = {}
        for row, level in zip(rows, levels, strict=True):
            if level is None or level.fence != row.fence:
                closed[row.product_id] = row.fence
            elif level.left == row.available:
                self._still.ends(row.product_id)
            # Not its version: that rises with each commit, which leaves both as they are.
            elif self._still.lasts(row.product_id, (level, row.available)):
                wrong[row.product_id] = row.fence
                DRIFT.inc(min(abs(level.left - row.available), MAX_TOTAL))
        written = 0
        for fences, cause in ((closed, "closed"), (wrong, "wrong")):
            if fences:
                written += await self._admitter.rebuild(fences, cause)
        return written
