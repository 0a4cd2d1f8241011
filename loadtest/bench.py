"""How fast the system is, beside what the machine's Postgres does in the same run: `make bench`.

Two backlogs and one fixed rate. A backlog is published while its reader is held; the figure runs
from the first answer to the last by the broker's own timestamps, read afterwards, so that nothing
but the system works meanwhile. At the fixed rate messages are published at their times, whether
or not the system keeps up. Orders have one line, no coupon, and are paid from wallets.

State the ratios: machines differ, and one machine differs from hour to hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from local_stack import Stack
from local_stack.postgres import binaries

PARTITIONS, PRODUCTS, USERS = 12, 100, 1_000
STATE = Path(".state/bench")
PGBENCH_S = 15
WITHIN_S = 300
ENDED = frozenset({"OrderConfirmed", "OrderRejected", "OrderCancelled"})


@dataclass
class Bus:
    """A producer and a consumer on the bench's broker."""

    producer: AIOKafkaProducer
    consumer: AIOKafkaConsumer

    async def send(self, topic: str, key: str, **body: Any) -> None:
        await self.producer.send(topic, json.dumps(body).encode(), key=key.encode())

    async def ends(self, *topics: str) -> dict[TopicPartition, int]:
        places = [TopicPartition(topic, n) for topic in topics for n in range(PARTITIONS)]
        return dict(await self.consumer.end_offsets(places))

    async def grown(self, since: dict[TopicPartition, int], by: int) -> None:
        """Wait until the partitions hold `by` more messages than they did."""
        deadline = time.monotonic() + WITHIN_S
        while (
            sum((await self.consumer.end_offsets(list(since))).values()) < sum(since.values()) + by
        ):
            if time.monotonic() > deadline:
                raise SystemExit(f"no {by} messages within {WITHIN_S} s: see the logs in {STATE}")
            await asyncio.sleep(0.2)

    async def read(self, since: dict[TopicPartition, int]) -> list[tuple[str, str, int]]:
        """Type, key and the broker's timestamp (ms) of every message from there on."""
        until = await self.consumer.end_offsets(list(since))
        self.consumer.assign(list(since))
        for place, offset in since.items():
            self.consumer.seek(place, offset)
        found = []
        for place, end in until.items():
            while await self.consumer.position(place) < end:
                for records in (await self.consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        headers = dict(record.headers)
                        kind = headers.get("ce_type", b"").decode()
                        found.append((kind, (record.key or b"").decode(), record.timestamp))
        return found


async def seed(bus: Bus) -> None:
    """Products and money without end."""
    since = await bus.ends("stock.events.v1", "wallet.events.v1")
    for n in range(PRODUCTS):
        await bus.send(
            "stock.admin.v1", f"P{n}", type="PutProduct", commandId=f"p{n}", productId=f"P{n}",
            name="bench", price=100, currency="KRW", strategy="optimistic", quantity=10**9,
        )  # fmt: skip
    for n in range(USERS):
        await bus.send(
            "wallet.requests.v1", f"u{n}", type="TopUpWallet", commandId=f"t{n}", userId=f"u{n}",
            amount=10**12, currency="KRW",
        )  # fmt: skip
    await bus.producer.flush()
    await bus.grown(since, PRODUCTS + USERS)


def pgbench(stack: Stack) -> float:
    """Single-row transactions a second of the stack's own Postgres."""
    url = stack.env().admin_database_url.replace("/shop", "/bench")
    program = str(binaries() / "pgbench")
    subprocess.run(["psql", stack.env().admin_database_url, "-qc", "CREATE DATABASE bench"],
                   check=False, capture_output=True)  # fmt: skip
    subprocess.run([program, "-q", "-i", "-s", "10", url], check=True, capture_output=True)
    run = [program, "-N", "-M", "prepared", "-c", "16", "-j", "2", "-T", str(PGBENCH_S), url]
    output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    found = re.search(r"tps = ([0-9.]+)", output)
    if found is None:
        raise SystemExit(f"pgbench said no figure: {output}")
    return float(found[1])


def per_second(moments_ms: list[int]) -> float:
    return (len(moments_ms) - 1) / (max(moments_ms) - min(moments_ms)) * 1000


async def drain_commands(bus: Bus, stack: Stack, commands: int) -> float:
    """`ReserveStock` a second through one instance of stock."""
    stack.hold("stock-0")
    since = await bus.ends("stock.replies.v1")
    for n in range(commands):
        await bus.send(
            "stock.commands.v1", f"c{n}", type="ReserveStock", commandId=f"c{n}:reserve:do",
            orderId=f"c{n}", userId="u1",
            items=[{"productId": f"P{random.randrange(PRODUCTS)}", "quantity": 1}],
        )  # fmt: skip
    await bus.producer.flush()
    stack.release("stock-0")
    await bus.grown(since, commands)
    answers = await bus.read(since)
    await asyncio.to_thread(stack.wait_healthy, "stock-0")
    return per_second([at for _, _, at in answers])


async def place(bus: Bus, order_id: str) -> None:
    await bus.send(
        "orders.commands.v1", order_id, type="PlaceOrder", orderId=order_id,
        userId=f"u{random.randrange(USERS)}",
        items=[{"productId": f"P{random.randrange(PRODUCTS)}", "quantity": 1}],
    )  # fmt: skip


async def drain_orders(bus: Bus, stack: Stack, orders: int, run: str) -> float:
    """Whole orders a second from a backlog."""
    stack.hold("order-orchestrator-0")
    since = await bus.ends("orders.events.v1")
    for n in range(orders):
        await place(bus, f"{run}-{n}")
    await bus.producer.flush()
    stack.release("order-orchestrator-0")
    await bus.grown(since, 2 * orders)  # accepted, and ended
    ended = [at for kind, _, at in await bus.read(since) if kind in ENDED]
    await asyncio.to_thread(stack.wait_healthy, "order-orchestrator-0")
    return per_second(ended)


async def at_rate(bus: Bus, rate: int, seconds: int) -> tuple[int, int]:
    """The median and the 99th percentile from `PlaceOrder` to outcome, in ms."""
    events, commands = await bus.ends("orders.events.v1"), await bus.ends("orders.commands.v1")
    started = time.monotonic()
    for n in range(rate * seconds):
        wait_s = started + n / rate - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await place(bus, f"r{rate}-{n}")
    await bus.producer.flush()
    await bus.grown(events, 2 * rate * seconds)
    placed = {key: at for _, key, at in await bus.read(commands)}
    taken = sorted(at - placed[key] for kind, key, at in await bus.read(events) if kind in ENDED)
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


def _beside(figure: float, limit: float) -> str:
    return f"{figure:8.0f} a second, {figure / limit:.2f} of pgbench"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=60_000)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=200, help="orders a second")
    parser.add_argument("--seconds", type=int, default=20, help="at that rate")
    args = parser.parse_args()
    stack = Stack.whole(STATE)
    stack.wipe()
    try:
        servers = stack.up()["KAFKA_BOOTSTRAP_SERVERS"]
        producer = AIOKafkaProducer(bootstrap_servers=servers, max_batch_size=262_144, linger_ms=2)
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
        async with producer, consumer:
            bus = Bus(producer, consumer)
            limit = await asyncio.to_thread(pgbench, stack)
            print(f"pgbench -N                {limit:8.0f} transactions a second", flush=True)
            await seed(bus)
            await drain_orders(bus, stack, 5_000, "warm")
            orders = await drain_orders(bus, stack, args.orders, "drain")
            print(f"orders from a backlog     {_beside(orders, limit)}", flush=True)
            median, slow = await at_rate(bus, args.rate, args.seconds)
            print(f"at {args.rate} orders a second    p50 {median} ms, p99 {slow} ms", flush=True)
            commands = await drain_commands(bus, stack, args.commands)
            print(f"commands through stock    {_beside(commands, limit)}")
    finally:
        stack.wipe()


if __name__ == "__main__":
    asyncio.run(main())
