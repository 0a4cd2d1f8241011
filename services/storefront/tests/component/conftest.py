"""A storefront alone: the test plays the orchestrator, and no other service is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pytest

from shared.contracts.orders import OrderAwaitingPayment
from shared.testing.ports import ReservedPort
from shared.testing.storefronts import Storefront

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.testing.kafka import Topics
    from shared.testing.valkey import Valkey

WITHIN_S = 60.0
EVENTS = "orders.events.v1"


class Alone(Protocol):
    """The fixture `alone`."""

    async def __call__(self, **settings: str) -> Storefront: ...


@pytest.fixture
async def alone(topics: Topics, valkey: Valkey, tmp_path: Path) -> AsyncIterator[Alone]:
    """Starts a storefront with settings; its peers don't listen."""
    await topics.create()
    started: list[Storefront] = []
    with ReservedPort() as nobody:
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": topics.connection.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": topics.prefix,
            "REDIS_URL": valkey.url,
            "STOCK_URL": f"http://127.0.0.1:{nobody.port}",
            "ORCHESTRATOR_URL": f"http://127.0.0.1:{nobody.port}",
            "IDENTITY": "open",
        }

        async def start(**settings: str) -> Storefront:
            front = Storefront("storefront-0", common | settings, folder=tmp_path)
            started.append(front)
            await front.start(ready_within_s=WITHIN_S)
            return front

        yield start
        for each in started:
            print(each.log())  # shown on failure
        await asyncio.gather(*(each.discard() for each in started))


class Orchestrator:
    """Holds whatever is ordered, once it is told to."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    async def commands(self, count: int) -> list[str]:
        """The ids of the orders that were placed, once there are so many."""
        records = await self._topics.wait_for(
            "orders.commands.v1", lambda record: True, count=count, within_s=WITHIN_S
        )
        return [record.json["orderId"] for record in records]

    async def hold(self, *order_ids: str) -> None:
        """Says of these orders that they await their payment."""
        now = datetime.now(UTC)
        events = [
            OrderAwaitingPayment(
                order_id=order_id, user_id="ann", version=2, at=now, items=(), total=1_000,
                discount=0, currency="KRW", pay_by=now,
            )
            for order_id in order_ids
        ]  # fmt: skip
        await self._topics.publish(EVENTS, events)


@pytest.fixture
def orchestrator(topics: Topics) -> Orchestrator:
    """The test's own."""
    return Orchestrator(topics)
