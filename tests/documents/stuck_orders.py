"""Two orders that need a person, as `docs/runbooks/stuck-orders.md` finds them."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from shared.contracts.topics import PARTITIONS
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from .conftest import Shell

ORDERS: Final = ("stuck-1", "stuck-2")


async def make_stuck(shell: Shell) -> None:
    """Payment is down while they are to be charged; what it would have read is lost; and a reply
    that nobody can read comes in its place."""
    stack = shell.stack
    environment = stack.env()
    servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
    admin = environment["ADMIN_URL_ORDER_ORCHESTRATOR_0"]

    def look(order_id: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{admin}/sagas/{order_id}") as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def known(order_id: str, **facts: Any) -> bool:
        try:
            document = look(order_id)
        except OSError:
            return False
        return all(document.get(name) == fact for name, fact in facts.items())

    stack.hold("payment-0")
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:

        async def publish(topic: str, order_id: str, **body: Any) -> None:
            value = json.dumps({"orderId": order_id} | body).encode()
            await producer.send_and_wait(topic, value, key=order_id.encode())

        line = {"productId": "P001", "quantity": 1}
        for order_id in ORDERS:
            await publish(
                "orders.commands.v1", order_id, type="PlaceOrder", userId="user_1", items=[line]
            )
        for order_id in ORDERS:
            await eventually(
                lambda one=order_id: known(one, state="CHARGING"),
                within_s=60, describe=f"{order_id} is to be charged",
            )  # fmt: skip
            await publish(
                "payment.replies.v1", order_id,
                type="PaymentCharged", commandId=f"{order_id}:charge:do", amount="much",
            )  # fmt: skip
        for order_id in ORDERS:
            await eventually(
                lambda one=order_id: not known(one, stuck=None),
                within_s=60, describe=f"{order_id} is stuck",
            )  # fmt: skip
    lost = {
        TopicPartition("payment.commands.v1", n): RecordsToDelete(before_offset=-1)
        for n in range(PARTITIONS)
    }
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        await client.delete_records(lost)
    finally:
        await client.close()
    stack.release("payment-0")
