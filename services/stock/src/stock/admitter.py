"""Asks the counters of hot products for a chunk, writes them anew where they are closed, and gives
back what a chunk was admitted for and did not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.contracts.stock import WhenRedisDown
from shared.redis import Reach, RedisAwayError, Returns
from stock.admission import Admission, Answers, is_hopeless
from stock.counters import Move, Take, TakeLine
from stock.metrics import AWAY, REBUILDS, RETURNS_DROPPED
from stock.store import Store
from stock.strategies import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from shared.contracts.stock import ReserveStock
    from shared.database import Pool
    from stock.counters import HotCounters
    from stock.records import Fence, Product

ASKS: Final = 3
"""So often a chunk asks where counters are closed; then Postgres decides as without Redis."""


class Admitter:
    """Knows the hot products, asks their counters, and keeps them true."""

    def __init__(self, counters: HotCounters, pool: Callable[[], Pool]) -> None:
        """Asks nothing before the first order of a hot product. `pool` is asked for when it is
        needed: the service that has it is made of routes that know the admitter."""
        self.counters = counters
        self._pool = pool
        self._hot: dict[str, Product] = {}
        """As they were read last."""
        self.reach = Reach("counters", AWAY, lambda: self.counters.probe())
        self.returns: Returns[Take | Move] = Returns(self._give, self.reach, RETURNS_DROPPED)

    @property
    def has_hot(self) -> bool:
        """Whether any product is known that is sold by a counter."""
        return bool(self._hot)

    def learn(self, products: Iterable[Product]) -> None:
        """Take note of rows as they were read."""
        for product in products:
            if WAYS[product.active].asks_counter:
                self._hot[product.product_id] = product
            elif product.product_id in self._hot:
                del self._hot[product.product_id]

    async def admit(self, commands: Sequence[ReserveStock], *, in_vain: int = 0) -> Admission:
        """Ask for the hot lines of these orders, in their order.

        `in_vain` is how often in a row an admission was void by the time of the fold, as where
        another instance can't reach Redis and voids the counter with each of its chunks: past
        `ASKS` the products whose policy allows it are left to Postgres.
        """
        answers = Answers()
        commands = await self._worth_asking(commands)
        if in_vain >= ASKS:
            answers.leave([take for take in self._takes(commands, answers) if _may_be_left(take)])
        for _ in range(ASKS):
            takes = self._takes(commands, answers)
            if not takes or self.reach.is_away:
                break
            try:
                closed = answers.add(takes, await self.counters.admit(takes))
                if closed:
                    await self.rebuild(closed, "closed")
            except RedisAwayError as error:
                self.reach.lost(error)
        answers.leave(self._takes(commands, answers))
        return answers.admission(away=self.reach.is_away)

    async def rebuild(self, closed: Mapping[str, Fence], cause: str) -> int:
        """Write counters anew from their rows, unless somebody did since these fences; returns how
        many. Raises RedisAwayError, and no row has changed then."""
        async with (
            self._pool().acquire() as connection,
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

    def after(self, given_back: Collection[Take], moves: Sequence[Move]) -> None:
        """Once a chunk is committed: give back what it was admitted for and didn't take, and let
        the counters follow what it moved."""
        self.returns.add(given_back)
        self.returns.add(moves)

    async def _give(self, what: Take | Move) -> None:
        if isinstance(what, Take):
            await self.counters.take_back(what)
        else:
            await self.counters.move(what)

    async def close(self) -> None:
        """Give back what still waits, and let go of the connections."""
        await self.returns.close()
        await self.counters.close()

    async def _worth_asking(self, commands: Sequence[ReserveStock]) -> list[ReserveStock]:
        """Those with hot lines that are new and that the rows may reserve: what others take would
        be missing behind them until it is given back."""
        hot = [one for one in commands if any(item.product_id in self._hot for item in one.items)]
        if not hot:
            return []
        items = {item.product_id for command in hot for item in command.items}
        async with self._pool().acquire() as connection:
            store = Store(connection)
            rows = await store.read_products(sorted(items))
            decided = await store.decided({command.order_id for command in hot})
        self.learn(rows)
        known = {row.product_id: row for row in rows}
        return [
            command
            for command in hot
            if command.order_id not in decided and not is_hopeless(command, known)
        ]

    def _takes(self, commands: Sequence[ReserveStock], answers: Answers) -> list[Take]:
        """What those that are not answered yet want of hot products; a second copy of a command
        is left out."""
        takes: dict[str, Take] = {}
        for command in filter(answers.is_open, commands):
            lines = tuple(
                TakeLine(item.product_id, item.quantity, product.fence, product.when_redis_down)
                for item in command.items
                if (product := self._hot.get(item.product_id)) is not None
            )
            if lines:
                takes.setdefault(command.command_id, Take(command.command_id, lines))
        return list(takes.values())


def _may_be_left(take: Take) -> bool:
    return all(line.when_away is WhenRedisDown.POSTGRES for line in take.lines)
