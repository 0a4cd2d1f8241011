"""How many commands a second go through stock, beside what the machine's Postgres can do.

    make bench-pipeline

Publishes `ReserveStock` of one line over 100 products, in random order, while stock is stopped;
then starts it and measures from the first reply to the last by the broker's timestamps. In the
same run `pgbench -N` says how many single-row transactions the same server does a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"


async def put_products(producer: AIOKafkaProducer, run: str, products: int) -> None:
    for number in range(products):
        body = {
            "type": "PutProduct", "commandId": f"{run}-p{number}",
            "productId": f"{run}-P{number:03d}", "name": "bench", "price": 100,
            "currency": "KRW", "strategy": "optimistic", "quantity": 10_000_000,
        }  # fmt: skip
        await producer.send("stock.admin.v1", json.dumps(body).encode(), key=body["productId"].encode())
    await producer.flush()


async def publish(producer: AIOKafkaProducer, run: str, commands: int, products: int) -> None:
    for number in range(commands):
        order = f"{run}-o{number}"
        body = {
            "type": "ReserveStock", "commandId": f"{order}:reserve:do", "orderId": order,
            "userId": "u1",
            "items": [{"productId": f"{run}-P{random.randrange(products):03d}", "quantity": 1}],
        }  # fmt: skip
        await producer.send(COMMANDS, json.dumps(body).encode(), key=order.encode())
    await producer.flush()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=60_000)
    parser.add_argument("--products", type=int, default=100)
    args = parser.parse_args()
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    run = f"b{int(time.time())}"
    producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5, max_batch_size=262_144)
    await producer.start()
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    partitions = [TopicPartition(REPLIES, p) for p in range(12)]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for p in partitions:
        await consumer.position(p)
    await put_products(producer, run, args.products)
    await asyncio.sleep(1)
    before = time.time()
    await publish(producer, run, args.commands, args.products)
    published = time.time()
    seen = 0
    first = last = None
    kinds = {}
    while seen < args.commands:
        for records in (await consumer.getmany(timeout_ms=5000)).values():
            for record in records:
                seen += 1
                if seen % 97 == 0:
                    t = json.loads(record.value)["type"]
                    kinds[t] = kinds.get(t, 0) + 1
                first = min(first or record.timestamp, record.timestamp)
                last = max(last or 0, record.timestamp)
        if time.time() - published > 120:
            break
    print(f"published {args.commands} in {published - before:.1f} s; {seen} replies in "
          f"{(last - first) / 1000:.2f} s: {seen / (last - first) * 1000:.0f} a second", kinds, file=sys.stderr)
    await producer.stop()
    await consumer.stop()


asyncio.run(main())
