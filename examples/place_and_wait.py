"""Place one order and wait for its outcome, as an upstream system would.

.venv/bin/python examples/place_and_wait.py    # with KAFKA_BOOTSTRAP_SERVERS in the environment
"""

import asyncio
import json
import os
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(
    "set KAFKA_BOOTSTRAP_SERVERS; make env tells it"
)
PREFIX = os.environ.get("KAFKA_TOPIC_PREFIX", "")
WITHIN_S = 30
OUTCOMES = ("OrderConfirmed", "OrderRejected", "OrderCancelled")


async def main() -> None:
    order_id = f"example-{uuid.uuid4()}"
    order = {"type": "PlaceOrder", "orderId": order_id, "userId": "user_1",
             "items": [{"productId": "P001", "quantity": 1}]}  # fmt: skip
    async with AIOKafkaProducer(bootstrap_servers=SERVERS) as producer:
        value = json.dumps(order).encode()
        await producer.send_and_wait(f"{PREFIX}orders.commands.v1", value, key=order_id.encode())
    events = AIOKafkaConsumer(
        f"{PREFIX}orders.events.v1", bootstrap_servers=SERVERS, auto_offset_reset="earliest"
    )
    async with events:
        async for record in events:
            event = json.loads(record.value)
            if event.get("orderId") == order_id:
                print(event["type"], event.get("reason", ""))
                if event["type"] in OUTCOMES:
                    return


try:
    asyncio.run(asyncio.wait_for(main(), WITHIN_S))
except TimeoutError:
    sys.exit(f"no outcome within {WITHIN_S} s; is the system up? make status tells it")
except KafkaError as error:
    sys.exit(f"{SERVERS}: {error}")
