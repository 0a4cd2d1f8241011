"""One instance at a time at a campaign: a lock in Redis with a lease, and a fencing token from the
campaign's row.

The lock keeps others from working in vain; it is the token that keeps them out. A holder that was
frozen past its lease wakes up believing that the lock is its own: what it saves then is refused,
since the row's fence is higher by one for each holder that came after.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Final

from coupon.metrics import LOCK_SECONDS, LOCKS_LOST, LOCKS_OVERRULED
from coupon.store import Store
from shared import backoff
from shared.redis import RedisAwayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from coupon.gates import Gates
    from shared.database import Pool
    from shared.redis import Reach

WAIT_LEASES: Final = 2
"""For so many leases a chunk waits for a lock; then it goes on with its token alone."""
RENEWALS_PER_LEASE: Final = 3
FIRST_POLL_S: Final = 0.002
LONGEST_POLL_S: Final = 0.05


class Locks:
    """Locks of campaigns, renewed while they are held."""

    def __init__(self, gates: Gates, pool: Callable[[], Pool], *, lease_s: float) -> None:
        """A lock is gone `lease_s` seconds after its holder died."""
        self._gates = gates
        self._pool = pool
        self._lease_s = lease_s

    @contextlib.asynccontextmanager
    async def hold(
        self, coupon_ids: Sequence[str], reach: Reach
    ) -> AsyncIterator[Mapping[str, int]]:
        """Hold the locks of these campaigns, all of them; gives the fencing token of each.

        Where Redis is away, or a lock isn't let go in time, the tokens alone keep others out.
        """
        if not coupon_ids:
            yield {}
            return
        began_s = time.perf_counter()
        holder = secrets.token_hex(8)
        held = await self._take(coupon_ids, holder, reach)
        renewing = asyncio.create_task(self._renew(coupon_ids, holder)) if held else None
        try:
            async with (
                self._pool().acquire() as connection,
                connection.transaction(),
            ):
                tokens = await Store(connection).raise_fences(coupon_ids)
            LOCK_SECONDS.observe(time.perf_counter() - began_s)
            yield tokens
        finally:
            if renewing is not None:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
                await self._let_go(coupon_ids, holder, reach)

    async def _take(self, coupon_ids: Sequence[str], holder: str, reach: Reach) -> bool:
        """Whether the locks are held; False where it goes on without."""
        give_up_at_s = time.monotonic() + WAIT_LEASES * self._lease_s
        attempt = 0
        try:
            while not reach.is_away:
                if await self._gates.lock(coupon_ids, holder, self._lease_s):
                    return True
                if time.monotonic() > give_up_at_s:
                    LOCKS_OVERRULED.inc()
                    return False
                attempt += 1
                pause_s = backoff.delay_s(attempt, first_s=FIRST_POLL_S, longest_s=LONGEST_POLL_S)
                await asyncio.sleep(pause_s)
        except RedisAwayError as error:
            reach.lost(error)
        return False

    async def _renew(self, coupon_ids: Sequence[str], holder: str) -> None:
        """Until it is cancelled, or the lock is another's: then the fence tells."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_PER_LEASE)
            try:
                held = await self._gates.lock(coupon_ids, holder, self._lease_s, renew=True)
            except RedisAwayError:
                continue  # it may be back before the lease is over
            if not held:
                LOCKS_LOST.inc()
                return

    async def _let_go(self, coupon_ids: Sequence[str], holder: str, reach: Reach) -> None:
        try:
            await self._gates.unlock(coupon_ids, holder)
        except RedisAwayError as error:
            reach.lost(error)
