"""Keeps gates and rows the same, and finds Redis again when it is back.

A gate differs from its row while an admission is under way between the two: it is wrong where both
stand still and differ. Then, and where it is lost or of another fence, it is written anew; where no
coupon is to be given out any more, it is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coupon.metrics import DRIFT
from coupon.store import Store
from shared.redis import RedisAwayError, Standstill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coupon.doorkeeper import Doorkeeper
    from coupon.records import Campaign
    from shared.database import Pool
    from shared.lease import Lease

LEASE: Final = "coupon.gates"
GATES_AT_ONCE: Final = 500


class Reconciler:
    """One pass after the other; only the holder of the lease writes."""

    def __init__(self, doorkeeper: Doorkeeper, pool: Pool, lease: Lease) -> None:
        """`lease` lasts several passes."""
        self._doorkeeper = doorkeeper
        self._pool = pool
        self._lease = lease
        self._still = Standstill()

    async def run_once(self) -> int:
        """Compare all gates; returns how many were written anew."""
        reach = self._doorkeeper.reach
        try:
            if reach.is_away:
                await reach.find()
            if await self._lease.take() is None:
                self._still.keep_only(())
                return 0
            async with self._pool.acquire() as connection:
                rows = await Store(connection).giving_by_gate()
            giving = {row.coupon_id for row in rows}
            self._still.keep_only(giving)
            await self._doorkeeper.gates.forget_all_but(giving)
            written = 0
            for start in range(0, len(rows), GATES_AT_ONCE):
                written += await self._compare(rows[start : start + GATES_AT_ONCE])
        except RedisAwayError as error:
            reach.lost(error)
            return 0
        return written

    async def _compare(self, rows: Sequence[Campaign]) -> int:
        gates = await self._doorkeeper.gates.read([row.coupon_id for row in rows])
        closed: dict[str, int] = {}
        wrong: dict[str, int] = {}
        for row, gate in zip(rows, gates, strict=True):
            if gate is None or gate.fence != row.fence:
                closed[row.coupon_id] = row.fence
            elif (gate.taken, gate.limit) == (row.issued, row.limit):
                self._still.ends(row.coupon_id)
            elif self._still.lasts(row.coupon_id, (gate, row.issued)):
                wrong[row.coupon_id] = row.fence
                DRIFT.inc(abs(gate.taken - row.issued))
        for fences, cause in ((closed, "closed"), (wrong, "wrong")):
            if fences:
                await self._doorkeeper.rebuild(fences, cause)
        return len(closed) + len(wrong)
