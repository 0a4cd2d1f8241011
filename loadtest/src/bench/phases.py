"""The phases. Each starts from a system at rest and ends with one."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

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
        found = await wait_until_at_rest(dsn, self.connection, within_s=REST_WITHIN_S)
        if moving := found.at_work:
            raise BenchError(f"{REST_WITHIN_S:.0f} s after a phase the system is at work: {moving}")
        self.wal_bytes = await self._wal() - before

    async def _wal(self) -> int:
        written = await self.database.fetchval(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
        )
        return int(written)


async def drain_orders(ground: Ground, orders: int, run: str) -> Repeat:
    """Orders that have piled up before the orchestrator: one line, no coupon, from wallets."""
    messages = [_order(f"{run}-{n}") for n in range(orders)]
    async with ground.phase():
        since = await ground.bus.ends(EVENTS)
        await asyncio.to_thread(ground.stack.hold, ORCHESTRATOR)
        await ground.bus.publish_all(ORDERS, messages)
        async with ground.meter.reading(PERIOD_S):
            await asyncio.to_thread(ground.stack.release, ORCHESTRATOR)
            await ground.bus.grown(since, 2 * orders, within_s=SILENCE_S)  # accepted, and ended
        answers = await ground.bus.answers(since)
        expect(answers, {ACCEPTED: orders, CONFIRMED: orders})
    ended = sorted(answer.at_ms for answer in answers if answer.kind == CONFIRMED)
    return Repeat(
        messages=orders,
        per_second=per_second(ended),
        usage=ground.meter.usage(min(answer.at_ms for answer in answers) / 1000, ended[-1] / 1000),
        wal_bytes=ground.wal_bytes,
        bins=binned(ended),
    )


async def drain_commands(ground: Ground, commands: int, run: str) -> Repeat:
    """`ReserveStock` that have piled up before the one instance of stock.

    The orchestrator reads the replies, as ever, and ignores them.
    """
    messages = [_reservation(f"{run}-{n}") for n in range(commands)]
    async with ground.phase():
        since = await ground.bus.ends(REPLIES)
        await asyncio.to_thread(ground.stack.hold, STOCK_PART)
        await ground.bus.publish_all(STOCK, messages)
        async with ground.meter.reading(PERIOD_S):
            await asyncio.to_thread(ground.stack.release, STOCK_PART)
            await ground.bus.grown(since, commands, within_s=SILENCE_S)
        answers = await ground.bus.answers(since)
        expect(answers, {RESERVED: commands})
    ended = sorted(answer.at_ms for answer in answers)
    return Repeat(
        messages=commands,
        per_second=per_second(ended),
        usage=ground.meter.usage(ended[0] / 1000, ended[-1] / 1000),
        wal_bytes=ground.wal_bytes,
        bins=binned(ended),
    )


async def at_rate(ground: Ground, rate: int, seconds: int, run: str) -> Repeat:
    """Orders that arrive evenly, each at its time, whether or not the system keeps up.

    Latency runs from that time to the broker's timestamp of the outcome.
    """
    messages = [_order(f"{run}-{n}") for n in range(rate * seconds)]
    async with ground.phase():
        since = await ground.bus.ends(EVENTS)
        sent = []
        late_ms = []
        async with ground.meter.reading(None):
            start = time.time() + START_IN_S
            for n, message in enumerate(messages):
                if (wait_s := start + n / rate - time.time()) > 0:
                    await asyncio.sleep(wait_s)
                late_ms.append((time.time() - start - n / rate) * 1000)
                sent.append(await ground.bus.publish(ORDERS, message))
            await asyncio.gather(*sent)
            await ground.bus.grown(since, 2 * len(messages), within_s=SILENCE_S)
        answers = await ground.bus.answers(since)
        expect(answers, {ACCEPTED: len(messages), CONFIRMED: len(messages)})
    intended_ms = {f"{run}-{n}": (start + n / rate) * 1000 for n in range(len(messages))}
    ended = {answer.key: answer.at_ms for answer in answers if answer.kind == CONFIRMED}
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


def expect(answers: Sequence[Answer], expected: dict[str, int]) -> None:
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


def _order(order_id: str) -> Outgoing:
    user = f"user_{random.randint(1, USERS)}"
    return _outgoing(order_id, PlaceOrder(order_id=order_id, user_id=user, items=_line()))


def _reservation(order_id: str) -> Outgoing:
    message = ReserveStock(
        command_id=f"{order_id}:reserve:do", order_id=order_id, user_id="user_1", items=_line()
    )
    return _outgoing(order_id, message)


def _line() -> tuple[Line]:
    return (Line(product_id=product_id(random.randint(1, PRODUCTS)), quantity=1),)


def _outgoing(key: str, message: Message) -> Outgoing:
    return Outgoing(key.encode(), message.to_bytes())
