"""Place one order and wait for its outcome, as an upstream system would."""

import asyncio
import json
import os
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

SERVERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
OUTCOMES = ("OrderConfirmed", "OrderRejected", "OrderCancelled")


async def main() -> None:
    order_id = f"o-{uuid.uuid4()}"
    order = {"type": "PlaceOrder", "orderId": order_id, "userId": "user_1",
             "items": [{"productId": "P001", "quantity": 1}]}  # fmt: skip
    async with AIOKafkaProducer(bootstrap_servers=SERVERS) as producer:
        value = json.dumps(order).encode()
        await producer.send_and_wait("orders.commands.v1", value, key=order_id.encode())
    events = AIOKafkaConsumer(
        "orders.events.v1", bootstrap_servers=SERVERS, auto_offset_reset="earliest"
    )
    async with events:
        async for record in events:
            event = json.loads(record.value)
            if event.get("orderId") == order_id:
                print(event["type"], event.get("reason", ""))
                if event["type"] in OUTCOMES:
                    return


asyncio.run(main())
