"""How many whole orders a second drain from a backlog, and how long one takes at a fixed rate.

    make bench-orders            # needs a running stack: make up

Open model: orders are published at their times, whether or not the system keeps up. The time of
an order runs from its `PlaceOrder` on the broker to its `OrderConfirmed` on the broker. Orders
have one line, no coupon, and are paid from wallets; 100 products and 1,000 users, uniform.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

COMMANDS, EVENTS = "orders.commands.v1", "orders.events.v1"
PARTITIONS = 12
PRODUCTS, USERS = 100, 1_000
ENDED = {"OrderConfirmed", "OrderRejected", "OrderCancelled"}


@dataclass
class Run:
    """What was published when, and what became of it."""

    published_ms: dict[str, int] = field(default_factory=dict)
    ended_ms: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


def body(run: str, order_id: str) -> bytes:
    return json.dumps(
        {
            "type": "PlaceOrder",
            "orderId": order_id,
            "userId": f"{run}-u{random.randrange(USERS)}",
            "items": [{"productId": f"{run}-P{random.randrange(PRODUCTS)}", "quantity": 1}],
        }
    ).encode()


async def prepare(producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, run: str) -> None:
    """Put products and fill wallets, and wait until both are answered."""
    places = [
        TopicPartition(topic, partition)
        for topic in ("stock.events.v1", "wallet.events.v1")
        for partition in range(PARTITIONS)
    ]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for place in places:
        await consumer.position(place)
    for number in range(PRODUCTS):
        product = {
            "type": "PutProduct", "commandId": f"{run}-p{number}",
            "productId": f"{run}-P{number}", "name": "bench", "price": 100, "currency": "KRW",
            "strategy": "optimistic", "quantity": 10_000_000,
        }  # fmt: skip
        await producer.send(
            "stock.admin.v1", json.dumps(product).encode(), key=product["productId"].encode()
        )
    for number in range(USERS):
        top_up = {
            "type": "TopUpWallet", "commandId": f"{run}-t{number}", "userId": f"{run}-u{number}",
            "amount": 1_000_000_000, "currency": "KRW",
        }  # fmt: skip
        await producer.send(
            "wallet.requests.v1", json.dumps(top_up).encode(), key=top_up["userId"].encode()
        )
    await producer.flush()
    answered = 0
    while answered < PRODUCTS + USERS:
        for records in (await consumer.getmany(timeout_ms=10_000)).values():
            answered += sum(run.encode() in record.value for record in records)


async def follow(consumer: AIOKafkaConsumer, run: Run, orders: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while len(run.ended_ms) < orders and time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=500, max_records=5_000)).values():
            for record in records:
                kind = next((v.decode() for k, v in record.headers if k == "ce_type"), "")
                order_id = record.key.decode()
                if kind in ENDED and order_id in run.published_ms:
                    run.ended_ms.setdefault(order_id, record.timestamp)
                    run.outcomes[kind] = run.outcomes.get(kind, 0) + 1


async def publish(producer: AIOKafkaProducer, run: Run, name: str, orders: int, rate: float) -> None:
    """Publish `orders` at `rate` a second; 0 means as fast as it goes."""
    started = time.monotonic()

    async def send(number: int) -> None:
        order_id = f"{name}-o{number}"
        run.published_ms[order_id] = int(time.time() * 1000)
        await producer.send(COMMANDS, body(name, order_id), key=order_id.encode())

    for number in range(orders):
        if rate:
            wait_s = started + number / rate - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        await send(number)
    await producer.flush()


def percentile(sorted_values: list[int], share: float) -> int:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=0.0, help="orders a second; 0: a backlog")
    parser.add_argument("--within", type=float, default=120.0, help="seconds to wait at most")
    args = parser.parse_args()
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    name = f"b{int(time.time())}"
    producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=0 if args.rate else 5, max_batch_size=262_144)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    await producer.start()
    await consumer.start()
    await prepare(producer, consumer, name)
    places = [TopicPartition(EVENTS, partition) for partition in range(PARTITIONS)]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for place in places:
        await consumer.position(place)
    run = Run()
    await asyncio.gather(
        publish(producer, run, name, args.orders, args.rate),
        follow(consumer, run, args.orders, args.within),
    )
    taken = sorted(run.ended_ms[order] - run.published_ms[order] for order in run.ended_ms)
    first, last = min(run.published_ms.values()), max(run.ended_ms.values(), default=0)
    print(f"{len(run.ended_ms)} of {args.orders} ended: {run.outcomes}", file=sys.stderr)
    if taken:
        print(
            f"{len(taken) / (last - first) * 1000:.0f} orders a second; p50"
            f" {percentile(taken, 0.5)} ms, p99 {percentile(taken, 0.99)} ms", file=sys.stderr,
        )
    await producer.stop()
    await consumer.stop()


asyncio.run(main())
