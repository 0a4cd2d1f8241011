"""One database for the tests of a module, emptied after each, and stock's handlers on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from shared.audit import Source, audit
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS
from shared.database import connect_pool
from shared.testing import replicas
from shared.testing.module_databases import database, module_database, plain_logs
from stock.consumers import routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.pipeline.outbox import Row
    from shared.testing.databases import Database

__all__ = ["database", "module_database", "plain_logs"]

READERS = {topic: reader_of(TOPICS[topic]) for topic in ("stock.replies.v1", "stock.events.v1")}


class Replica:
    """One instance of stock, whose answers are read."""

    def __init__(self, number: int, pool: Pool) -> None:
        self._replica = replicas.Replica(f"stock-{number}", pool, routes("KRW"))

    async def run(self, *commands: Message) -> list[Message]:
        """Run one chunk of one group; returns what it answers, dead letters left out."""
        rows = await self._replica.run(*commands)
        return [_read(row) for row in rows if row.message_type != "DeadLetter"]


class MakeReplica(Protocol):
    """The fixture `replica`."""

    def __call__(self, number: int) -> Replica: ...


class Counters(Protocol):
    """The fixture `counters`."""

    async def __call__(self, product_id: str = ...) -> tuple[int, ...]: ...


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock", max_connections=12) as pool:
        yield pool


@pytest.fixture
def replica(pool: Pool) -> MakeReplica:
    """Makes instances on the test's database: `replica(1)`."""

    def make(number: int) -> Replica:
        return Replica(number, pool)

    return make


@pytest.fixture
def stock(replica: MakeReplica) -> Replica:
    """The first instance."""
    return replica(0)


@pytest.fixture
def counters(pool: Pool) -> Counters:
    """Available, reserved, sold and received of a product: `await counters()`."""

    async def read(product_id: str = "P001") -> tuple[int, ...]:
        row = await pool.fetchrow(
            "SELECT available, reserved, sold, received FROM product WHERE product_id = $1",
            product_id,
        )
        assert row is not None
        return tuple(row)

    return read


@pytest.fixture
async def checked(database: Database) -> AsyncIterator[None]:
    """The invariants hold when the test is over."""
    yield
    sources = (Source("stock", "stock"),)
    (await audit(database.operator_dsn, sources, only_always=True)).require()


def _read(row: Row) -> Message:
    message = READERS[row.topic].read(row.value)
    assert not isinstance(message, Unreadable), message
    return message
