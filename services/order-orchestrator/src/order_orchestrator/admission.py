"""How many sagas may wait for a reply at once.

Deadlines run from an order's first step, so an order that no participant has time for is better
stored than started. Stored orders cost a pass more, so reading waits for room, though never for
long: no topic is held back, since `PayOrder` and `CancelOrder` lie on it too.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from order_orchestrator.events import Start
from order_orchestrator.metrics import ADMISSION_ROOM
from order_orchestrator.passes import Pass
from order_orchestrator.store import queries
from shared.contracts.orders import PlaceOrder
from shared.pipeline.sweeper import Swept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from order_orchestrator.chunk import Sagas
    from shared.database import Pool
    from shared.pipeline import Delivery
    from shared.pipeline.work import Work

STARTS_AT_ONCE = 500
PACE_S = 0.25
"""A chunk of new orders waits so long for room, and on where enough of it was made meanwhile."""
PACE_AT_MOST_S = 2.0


class Admission:
    """Counts by the database every interval, and by what this instance does in between.

    With several instances the limit may be passed by what the others start within an interval.
    """

    def __init__(self, limit: int) -> None:
        """At most `limit` sagas wait for a reply."""
        self._limit = limit
        self._waiting = limit  # nothing starts before the first count
        self._pending = False
        self._left = 0
        self.freed = asyncio.Event()
        self._changed = asyncio.Event()

    def counted(self, waiting: int, *, pending: bool) -> None:
        """Take the database's count: who waits for a reply, and whether any order is queued."""
        self._waiting = waiting
        self._pending = pending
        self._changed.set()
        ADMISSION_ROOM.set(self.room)

    @property
    def room(self) -> int:
        """How many more may start."""
        return max(0, self._limit - self._waiting)

    @property
    def has_pending(self) -> bool:
        """Whether any order is queued, as far as is known."""
        return self._pending

    async def pace(self, deliveries: Sequence[Delivery], hurried: Callable[[], bool]) -> None:
        """Wait until a chunk's orders, or a quarter of the limit, may start at once.

        Not at all where the chunk has a user's payment or cancellation; for `PACE_S` seconds where
        others end so slowly that it would take longer than `PACE_AT_MOST_S`; and no longer than
        `PACE_S` once it is `hurried`.
        """
        if not deliveries or any(type(one.message) is not PlaceOrder for one in deliveries):
            return
        wanted = min(len(deliveries), max(1, self._limit // 4))
        enough = wanted * PACE_S / PACE_AT_MOST_S
        for _ in range(round(PACE_AT_MOST_S / PACE_S)):
            left = self._left
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE_S):
                    while self._pending or self.room < wanted:
                        self._changed.clear()
                        await self._changed.wait()
                return
            ended = self._left - left
            if hurried() or ended < enough:
                return

    def begin(self) -> Starts:
        """What a transaction starts: counted once it is committed."""
        return Starts(self)

    def left(self, sagas: int) -> None:
        """`sagas` wait no longer."""
        if sagas:
            self._waiting = max(0, self._waiting - sagas)
            self._left += sagas
            self._changed.set()
            if self._pending:
                self.freed.set()

    def started(self, sagas: int, *, pending: bool = False) -> None:
        """`sagas` began to wait, and some were queued where `pending`."""
        self._waiting += sagas
        self._pending = self._pending or pending


class Starts:
    """The places that one transaction takes: those of one that is rolled back are free."""

    def __init__(self, admission: Admission) -> None:
        """Take them from `admission` when `commit` is called."""
        self._admission = admission
        self._taken = 0
        self._queued = False

    def try_start(self) -> bool:
        """Take a place for a new order, unless others have been waiting for longer."""
        admission = self._admission
        if admission.has_pending or self._queued or admission.room <= self._taken:
            self._queued = True
            return False
        self._taken += 1
        return True

    def commit(self) -> None:
        """The transaction is committed."""
        self._admission.started(self._taken, pending=self._queued)


class AdmissionLoop:
    """Starts pending orders, oldest first, as others end."""

    def __init__(
        self, admission: Admission, pool: Pool, work: Work, sagas: Sagas, interval_s: float
    ) -> None:
        """Counts every `interval_s` seconds, and starts whenever there is room."""
        self._admission = admission
        self._pool = pool
        self._pass = Pass(work, sagas)
        self._interval_s = interval_s
        self._counted_at_s = float("-inf")

    async def run_once(self) -> Swept:
        """Wait for room or for the next count, then start what fits."""
        admission = self._admission
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(admission.freed.wait(), self._interval_s)
        admission.freed.clear()
        now_s = asyncio.get_running_loop().time()
        if now_s - self._counted_at_s >= self._interval_s:
            async with self._pool.acquire() as connection:
                row = await queries.count_waiting.row(connection)
            assert row is not None
            admission.counted(row["waiting"], pending=row["pending"])
            self._counted_at_s = now_s
        room = min(admission.room, STARTS_AT_ONCE)
        if not (admission.has_pending and room):
            return Swept(0, more=True)
        started = await self._pass.run(lambda store: store.pending(room), Start())
        admission.started(started)
        return Swept(started, more=True)
