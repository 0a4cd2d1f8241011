"""Asks the counters of hot products for a chunk, writes them anew where they are closed, and gives
back what a chunk was admitted for and did not take."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from shared.contracts.stock import WhenRedisDown
from shared.database.pool import ACQUIRE_TIMEOUT_S
from shared.telemetry.logs import get_logger
from stock.admission import NOTHING_ASKED, Admission, Answers, GiveBack, Hot
from stock.counters import CountersAwayError, Take
from stock.metrics import AWAY, REBUILDS, RETURNS_DROPPED
from stock.store import Store
from stock.strategies import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from shared.contracts.stock import ReserveStock
    from shared.database import Pool
    from stock.counters import HotCounters, Move
    from stock.records import Fence, Product

_log = get_logger(__name__)

ASKS: Final = 3
"""So often a chunk asks where counters are closed; then Postgres decides as without Redis."""
RETURNS_KEPT: Final = 10_000
"""What waits to be given back; the reconciler finds what is dropped."""


class Admitter:
    """Knows the hot products, asks their counters, and keeps them true."""

    def __init__(self, counters: HotCounters, pool: Callable[[], Pool]) -> None:
        """Asks nothing before the first order of a hot product. `pool` is asked for when it is
        needed: the service that has it is made of routes that know the admitter."""
        self.counters = counters
        self._pool = pool
        self._hot: dict[str, Hot] = {}
        self._away = False
        self._stale: list[GiveBack] = []
        self._returns: deque[GiveBack | Move] = deque()
        self._wake = asyncio.Event()

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer when it was asked last."""
        return self._away

    def learn(self, products: Iterable[Product]) -> None:
        """Take note of rows as they were read."""
        for product in products:
            if WAYS[product.active].asks_counter:
                self._hot[product.product_id] = Hot(product.fence, product.when_redis_down)
            elif product.product_id in self._hot:
                del self._hot[product.product_id]

    async def admit(self, commands: Sequence[ReserveStock], *, in_vain: int = 0) -> Admission:
        """Ask for the hot lines of these orders, in their order.

        `in_vain` is how often in a row an admission was void by the time of the fold, as where
        another instance can't reach Redis and voids the counter with each of its chunks: past
        `ASKS` the products whose policy allows it are left to Postgres.
        """
        await self._give_up_stale()
        if not self._hot:
            return NOTHING_ASKED._replace(away=self._away)
        takes = self._takes(commands)
        found = Answers(self._hot)
        if in_vain >= ASKS:
            found.leave([take for take in takes if self._may_be_left(take)])
            takes = [take for take in takes if not self._may_be_left(take)]
        for _ in range(ASKS):
            if not takes or self._away:
                break
            fences = self._fences(takes)
            try:
                answers = await self.counters.admit(takes, fences)
                closed = found.add(takes, answers, fences)
                if closed:
                    await self.rebuild({one: fences[one] for one in closed}, "closed")
            except CountersAwayError as error:
                self.lost(error)
                break
            waiting = {take.command_id for take in takes} - found.decided
            takes = self._takes([one for one in commands if one.command_id in waiting])
        found.leave(takes)
        return found.admission(away=self._away)

    async def rebuild(self, closed: Mapping[str, Fence], cause: str) -> int:
        """Write counters anew from their rows, unless somebody did since these fences; returns how
        many. Raises CountersAwayError, and nothing has changed then."""
        async with (
            self._pool().acquire(timeout=ACQUIRE_TIMEOUT_S) as connection,
            connection.transaction(),
        ):
            store = Store(connection)
            rows = await store.lock_products(sorted(closed))
            ours = [
                row
                for row in rows
                if WAYS[row.active].asks_counter and row.fence == closed[row.product_id]
            ]
            raised = await store.raise_generations(ours)
            if raised:
                # Under the locks: whoever moves a row after this finds the counter written.
                await self.counters.write(
                    [(one.product_id, one.fence, one.available) for one in raised]
                )
        self.learn([*rows, *raised])
        REBUILDS.labels(cause).inc(len(raised))
        return len(raised)

    def lost(self, error: CountersAwayError) -> None:
        """Redis is away until `revive` finds it."""
        if not self._away:
            _log.warning("counters_away", detail=str(error)[:200])
        self._away = True
        AWAY.set(1)

    async def revive(self) -> None:
        """Look whether Redis is back. Raises CountersAwayError where it isn't."""
        await self.counters.read(["-"])
        if self._away:
            _log.warning("counters_back")
        self._away = False
        AWAY.set(0)

    def void(self, admission: Admission) -> None:
        """The chunk begins anew: what it was admitted for is given back before it asks again."""
        self._stale += [
            GiveBack(take, admission.fences)
            for command_id, take in admission.takes.items()
            if command_id not in admission.before
        ]

    def after(self, given_back: Collection[Take], moves: Sequence[Move], by: Admission) -> None:
        """Once a chunk is committed: give back what it was admitted for and didn't take, and let
        the counters follow what it moved."""
        self._returns.extend(GiveBack(take, by.fences) for take in given_back)
        self._returns.extend(moves)
        while len(self._returns) > RETURNS_KEPT:
            self._returns.popleft()
            RETURNS_DROPPED.inc()
        self._wake.set()

    async def return_once(self) -> None:
        """Wait for something to give back, and give back all that there is."""
        await self._wake.wait()
        self._wake.clear()
        await self.give_back()

    async def give_back(self) -> None:
        """Give back all that there is now; what Redis doesn't take is the reconciler's."""
        try:
            while self._returns:
                match self._returns.popleft():
                    case GiveBack(take, fences):
                        await self.counters.take_back(take, fences)
                    case move:
                        await self.counters.move(move)
        except CountersAwayError as error:
            self.lost(error)
            RETURNS_DROPPED.inc(len(self._returns) + 1)
            self._returns.clear()

    async def _give_up_stale(self) -> None:
        stale, self._stale = self._stale, []
        if self._away:
            return
        try:
            for take, fences in stale:
                await self.counters.take_back(take, fences)
        except CountersAwayError as error:
            self.lost(error)

    def _takes(self, commands: Sequence[ReserveStock]) -> list[Take]:
        """What these orders want of hot products; an order without any is left out, and so is
        the second copy of a command."""
        takes: dict[str, Take] = {}
        for command in commands:
            lines = tuple(
                (item.product_id, item.quantity)
                for item in command.items
                if item.product_id in self._hot
            )
            if lines:
                takes.setdefault(command.command_id, Take(command.command_id, lines))
        return list(takes.values())

    def _may_be_left(self, take: Take) -> bool:
        policies = {self._hot[product_id].when_away for product_id, _ in take.lines}
        return policies == {WhenRedisDown.POSTGRES}

    def _fences(self, takes: Sequence[Take]) -> dict[str, Fence]:
        products = sorted({product_id for take in takes for product_id, _ in take.lines})
        return {product_id: self._hot[product_id].fence for product_id in products}
