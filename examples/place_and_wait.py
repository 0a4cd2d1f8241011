"""Place one order and wait for its outcome, as an upstream system would."""

import asyncio
import json
import os
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main() -> None:
    servers, order_id = os.environ["KAFKA_BOOTSTRAP_SERVERS"], f"o-{uuid.uuid4()}"
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        order = {"type": "PlaceOrder", "orderId": order_id, "userId": "user_1",
                 "items": [{"productId": "P001", "quantity": 1}]}  # fmt: skip
        await producer.send_and_wait("orders.commands.v1", json.dumps(order).encode(), order_id.encode())
    consumer = AIOKafkaConsumer("orders.events.v1", bootstrap_servers=servers, auto_offset_reset="earliest")
    async with consumer:
        async for record in consumer:
            event = json.loads(record.value)
            if event.get("orderId") == order_id:
                print(event["type"], event.get("reason", ""))
                if event["type"] in ("OrderConfirmed", "OrderRejected", "OrderCancelled"):
                    return


asyncio.run(main())
