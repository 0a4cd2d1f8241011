"""The phases. Each starts from a system at rest and ends with one."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.bus import Answer, Bus, Outgoing
from bench.errors import BenchError
from bench.latencies import counted
from bench.record import BIN_MS, Repeat
from bench.usage import PERIOD_S, Meter
from local_stack.seed import PRODUCTS, USERS, product_id
from orderctl.draining import wait_until_at_rest
from shared.contracts.orders import Line, PlaceOrder
from shared.contracts.stock import ReserveStock
from shared.contracts.topics import GROUPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import asyncpg

    from local_stack import Stack
    from shared.contracts.base import Message
    from shared.kafka.connection import KafkaConnection

ORDERS, EVENTS = "orders.commands.v1", "orders.events.v1"
STOCK, REPLIES = "stock.commands.v1", "stock.replies.v1"
STAMPED = (ORDERS, EVENTS, REPLIES)
"""Topics whose timestamps have to be the broker's."""
ACCEPTED, CONFIRMED, RESERVED = "OrderAccepted", "OrderConfirmed", "StockReserved"
ORCHESTRATOR, STOCK_PART = "order-orchestrator-0", "stock-0"
SILENCE_S = 60.0
REST_WITHIN_S = 60.0
START_IN_S = 0.2
"""From the preparation of a rate to its first order."""
KINDS_SHOWN = 5


@dataclass
class Ground:
    """What phases work on."""

    stack: Stack
    connection: KafkaConnection
    bus: Bus
    database: asyncpg.Connection[asyncpg.Record]
    """As the superuser."""
    meter: Meter
    groups: Collection[str] = tuple(GROUPS)
    """The consumer groups that have read everything once the system rests."""
    wal_bytes: int = field(default=0, init=False)
    """Written in the last phase."""

    @asynccontextmanager
    async def phase(self) -> AsyncIterator[None]:
        """Rest before, rest after; what Postgres wrote for it is in `wal_bytes` then.

        Raises BenchError where the system does not come to rest.
        """
        before = await self._wal()
        yield
        dsn = self.stack.env().database_url
        found = await wait_until_at_rest(
            dsn, self.connection, within_s=REST_WITHIN_S, groups=self.groups
        )
        if moving := found.at_work:
            raise BenchError(f"{REST_WITHIN_S:.0f} s after a phase the system is at work: {moving}")
        self.wal_bytes = await self._wal() - before

    async def _wal(self) -> int:
        written = await self.database.fetchval(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
        )
        return int(written)


@dataclass(frozen=True)
class Work:
    """The messages of one phase, and what has to come of them."""

    topic: str
    messages: Sequence[Outgoing]
    """Each by the id of its order, which is the key of its answers, too."""
    answers: str
    """The topic of the answers."""
    expected: Mapping[str, int]
    """How many answers of which type."""
    ends: frozenset[str]
    """The types of which each message gets one, and has ended then."""


async def drain_orders(ground: Ground, orders: int, run: str) -> Repeat:
    """Orders that have piled up before the orchestrator: one line, no coupon, from wallets."""
    return await drain(ground, _orders(orders, run), partial(held, ground.stack, ORCHESTRATOR))


async def drain_commands(ground: Ground, commands: int, run: str) -> Repeat:
    """`ReserveStock` that have piled up before the one instance of stock.

    The orchestrator reads the replies, as ever, and ignores them.
    """
    messages = [reservation(f"{run}-{n}", _product()) for n in range(commands)]
    work = Work(STOCK, messages, REPLIES, {RESERVED: commands}, frozenset({RESERVED}))
    return await drain(ground, work, partial(held, ground.stack, STOCK_PART))


async def at_rate(ground: Ground, rate: int, seconds: int, run: str) -> Repeat:
    """Orders that arrive evenly for so many seconds."""
    return await arrive(ground, _orders(rate * seconds, run), rate)


@asynccontextmanager
async def held(stack: Stack, part: str) -> AsyncIterator[None]:
    """The part is not there meanwhile, and has started again afterwards."""
    await asyncio.to_thread(stack.hold, part)
    yield  # where it fails meanwhile, so has the run, and the stack is stopped
    await asyncio.to_thread(stack.release, part)


async def drain(
    ground: Ground,
    work: Work,
    held: Callable[[], AbstractAsyncContextManager[None]],
    *,
    warm: bool = False,
    period_s: float = PERIOD_S,
) -> Repeat:
    """Messages that have piled up while their readers were `held`.

    They count from the first answer to the last; where the readers are `warm` and have no start
    behind them, from the moment when they go on. Raises BenchError where other answers come than
    expected.
    """
    async with ground.phase():
        since = await ground.bus.ends(work.answers)
        async with AsyncExitStack() as holding:
            await holding.enter_async_context(held())
            await ground.bus.publish_all(work.topic, work.messages)
            async with ground.meter.reading(period_s):
                went_on_ms = time.time() * 1000
                await holding.aclose()
                await ground.bus.grown(since, sum(work.expected.values()), within_s=SILENCE_S)
        answers = await ground.bus.answers(since)
        expect(answers, work.expected)
    ended = sorted(answer.at_ms for answer in answers if answer.kind in work.ends)
    start_ms = went_on_ms if warm else min(answer.at_ms for answer in answers)
    rate = len(ended) / (ended[-1] + 1 - start_ms) * 1000 if warm else per_second(ended)
    return Repeat(
        messages=len(work.messages),
        per_second=rate,
        usage=ground.meter.usage(start_ms / 1000, ended[-1] / 1000),
        wal_bytes=ground.wal_bytes,
        bins=binned(ended),
    )


async def arrive(ground: Ground, work: Work, rate: int) -> Repeat:
    """Messages that arrive evenly, each at its time, whether or not the system keeps up.

    Latency runs from that time to the broker's timestamp of the answer that ends it. Raises
    BenchError where other answers come than expected, or the clocks disagree.
    """
    messages = work.messages
    async with ground.phase():
        since = await ground.bus.ends(work.answers)
        sent = []
        late_ms = []
        async with ground.meter.reading(None):
            start = time.time() + START_IN_S
            for n, message in enumerate(messages):
                if (wait_s := start + n / rate - time.time()) > 0:
                    await asyncio.sleep(wait_s)
                late_ms.append((time.time() - start - n / rate) * 1000)
                sent.append(await ground.bus.publish(work.topic, message))
            await asyncio.gather(*sent)
            await ground.bus.grown(since, sum(work.expected.values()), within_s=SILENCE_S)
        answers = await ground.bus.answers(since)
        expect(answers, work.expected)
    intended_ms = {
        message.key.decode(): (start + n / rate) * 1000 for n, message in enumerate(messages)
    }
    ended = {answer.key: answer.at_ms for answer in answers if answer.kind in work.ends}
    last_ms = max(ended.values())
    # A timestamp is a whole millisecond that had begun: the end of it is the latest it can mean.
    latencies_ms = [at_ms + 1 - intended_ms[key] for key, at_ms in ended.items()]
    if min(latencies_ms) <= 0:
        raise BenchError(
            "an order ended before it was placed: the broker's clock is behind this machine's."
            " Set both clocks, or unset KAFKA_BOOTSTRAP_SERVERS to start a broker here"
        )
    return Repeat(
        messages=len(messages),
        per_second=per_second(sorted(ended.values())),
        usage=ground.meter.usage(start, last_ms / 1000),
        wal_bytes=ground.wal_bytes,
        bins=binned(sorted(ended.values())),
        latency_ms=counted(latencies_ms),
        sent_late_ms=counted(max(one, 0.0) for one in late_ms),
    )


def expect(answers: Sequence[Answer], expected: Mapping[str, int]) -> None:
    """Raises BenchError where other answers came: then the figures are of other work."""
    found = Counter(answer.kind for answer in answers)
    if found != expected:
        shown = ", ".join(f"{count:,} {kind}" for kind, count in found.most_common(KINDS_SHOWN))
        wanted = ", ".join(f"{count:,} {kind}" for kind, count in expected.items())
        raise BenchError(f"expected were {wanted}, and there came {shown or 'nothing'}")


def per_second(moments_ms: Sequence[int]) -> float:
    """How many a second, from the first (ms) to the last of them.

    Those of one millisecond took all of it: the broker's clock tells no more.
    """
    took_ms = max(max(moments_ms) - min(moments_ms), 1)
    return (len(moments_ms) - 1) / took_ms * 1000


def binned(moments_ms: Sequence[int]) -> list[int]:
    """How many fall into each BIN_MS from the first on."""
    first = min(moments_ms)
    counts = Counter((moment - first) // BIN_MS for moment in moments_ms)
    return [counts[n] for n in range(max(counts) + 1)]


def reservation(order_id: str, *products: str) -> Outgoing:
    """A `ReserveStock` of one unit of each product; these are sorted."""
    message = ReserveStock(
        command_id=f"{order_id}:reserve:do",
        order_id=order_id,
        user_id="user_1",
        items=tuple(Line(product_id=product, quantity=1) for product in products),
    )
    return _outgoing(order_id, message)


def _orders(count: int, run: str) -> Work:
    messages = [_order(f"{run}-{n}") for n in range(count)]
    expected = {ACCEPTED: count, CONFIRMED: count}
    return Work(ORDERS, messages, EVENTS, expected, frozenset({CONFIRMED}))


def _order(order_id: str) -> Outgoing:
    user = f"user_{random.randint(1, USERS)}"
    items = (Line(product_id=_product(), quantity=1),)
    return _outgoing(order_id, PlaceOrder(order_id=order_id, user_id=user, items=items))


def _product() -> str:
    return product_id(random.randint(1, PRODUCTS))


def _outgoing(key: str, message: Message) -> Outgoing:
    return Outgoing(key.encode(), message.to_bytes())
