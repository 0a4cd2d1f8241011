"""What tests of payment share."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest

from payment.consumers import routes
from shared.contracts.base import fingerprint, message_id
from shared.contracts.topics import GROUPS, TOPICS
from shared.database.pool import connect_pool
from shared.pipeline import Delivery
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.messages import Received

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.pipeline.outbox import Chunk, Row
    from shared.testing.databases import Database

CURRENCY = "KRW"
TRACEPARENT = "00-" + "1" * 32 + "-" + "1" * 16 + "-00"
_offsets = count()


class Replica:
    """An instance without Kafka: its own connections, and the pipeline's own transactions, retries
    and halving around the real handlers."""

    def __init__(self, number: int, pool: Pool) -> None:
        self._owner = f"payment-{number}"
        self._pool = pool
        self._routes = {route.group: route for route in routes(CURRENCY)}

    async def run(self, *messages: Message) -> list[Row]:
        """One chunk of one group; returns what it has put into the outbox, in order."""
        (group,) = {_group_of(message) for message in messages}
        relay = _Relay(self._owner)
        runner = ChunkRunner(self._routes[group], self._pool, cast("Any", relay), lease_s=30.0)
        await runner.run([_delivery(group, message) for message in messages], ())
        return relay.submitted


class _Relay:
    """Keeps what is to be published."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.submitted: list[Row] = []

    def submit(self, chunks: Sequence[Chunk]) -> None:
        self.submitted += [row for chunk in chunks for row in chunk.rows]


def _group_of(message: Message) -> str:
    (group,) = (
        group
        for group in ("payment", "payment-requests")
        if any(type(message) in TOPICS[topic].messages for topic in GROUPS[group])
    )
    return group


def _delivery(group: str, message: Message) -> Delivery:
    (topic,) = GROUPS[group]
    key = TOPICS[topic].key_of(message).encode()
    received = Received(topic, 0, next(_offsets), 0, key, message.to_bytes(), TRACEPARENT)
    return Delivery(message, message_id(message), fingerprint(message), received, TRACEPARENT)


@pytest.fixture
async def replica(database: Database) -> AsyncIterator[Callable[[], Awaitable[Replica]]]:
    """Makes instances on the test's database."""
    async with AsyncExitStack() as stack:
        numbers = count()

        async def make() -> Replica:
            number = next(numbers)
            pool = connect_pool(
                database.dsn("payment"), name=f"payment-{number}", max_connections=4
            )
            return Replica(number, await stack.enter_async_context(pool))

        yield make
