"""Keeps counters and rows the same, and finds Redis again when it is back.

A counter differs from its row while an order is under way between the two: it is wrong where both
stand still and differ. Then, and where it is lost or of another fence, it is written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.contracts.base import MAX_TOTAL
from shared.database.pool import ACQUIRE_TIMEOUT_S
from shared.redis import RedisAwayError
from stock.metrics import DRIFT
from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database import Pool
    from shared.lease import Lease
    from stock.admitter import Admitter
    from stock.counters import Level
    from stock.records import Fence, Product

LEASE: Final = "stock.counters"
STILL_PASSES: Final = 4
"""A counter that differs is wrong after it and its row stood still for so many passes in a row: by
then a chunk that was admitted has committed, or waits for a lock and asks again."""
COUNTERS_AT_ONCE: Final = 500


class Reconciler:
    """One pass after the other; only the holder of the lease writes."""

    def __init__(self, admitter: Admitter, pool: Pool, lease: Lease) -> None:
        """`lease` lasts several passes."""
        self._admitter = admitter
        self._pool = pool
        self._lease = lease
        self._still: dict[str, tuple[Level, int, int]] = {}
        """Counter, what its row has available, and for how many passes they differed like that."""

    async def run_once(self) -> int:
        """Compare all counters; returns how many were written anew."""
        try:
            if self._admitter.reach.is_away:
                await self._admitter.reach.find()
            if await self._lease.take() is None:
                self._still.clear()
                return 0
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                rows = await Store(connection).hot_products()
            self._admitter.learn(rows)
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
                self._still.pop(row.product_id, None)
            elif self._stood_still(row, level):
                wrong[row.product_id] = row.fence
                DRIFT.inc(min(abs(level.left - row.available), MAX_TOTAL))
        written = 0
        for fences, cause in ((closed, "closed"), (wrong, "wrong")):
            if fences:
                written += await self._admitter.rebuild(fences, cause)
        return written

    def _stood_still(self, row: Product, level: Level) -> bool:
        # Not its version: that rises with each commit, which leaves both as they are.
        before, available, passes = self._still.get(row.product_id, (level, row.available, 0))
        passes = passes + 1 if (before, available) == (level, row.available) else 1
        self._still[row.product_id] = level, row.available, passes
        return passes > STILL_PASSES
