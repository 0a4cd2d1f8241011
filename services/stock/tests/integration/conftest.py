"""One database for the tests of a module, emptied after each, and stock's handlers on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from shared.audit import Source, audit
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS
from shared.database import connect_pool
from shared.lease import Lease
from shared.testing import replicas
from shared.testing.module_databases import database, module_database, plain_logs
from shared.testing.module_valkeys import module_valkey, valkey
from stock.admitter import Admitter
from stock.consumers import routes
from stock.contention import Contention
from stock.counters import HotCounters
from stock.reconciler import LEASE, Reconciler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.pipeline import Delivery
    from shared.pipeline.outbox import Row
    from shared.testing.databases import Database
    from shared.testing.valkey import Valkey

__all__ = ["database", "module_database", "module_valkey", "plain_logs", "valkey"]

READERS = {topic: reader_of(TOPICS[topic]) for topic in ("stock.replies.v1", "stock.events.v1")}


class Replica:
    """One instance of stock, whose answers are read."""

    def __init__(self, number: int, pool: Pool, redis_url: str) -> None:
        self.admitter = Admitter(HotCounters(redis_url), lambda: pool)
        self.reconciler = Reconciler(
            self.admitter, pool, Lease(pool, LEASE, f"stock-{number}", lease_s=30.0)
        )
        self.contention = Contention(lambda: pool)
        self._replica = replicas.Replica(
            f"stock-{number}", pool, routes("KRW", self.admitter, self.contention)
        )

    async def run(self, *commands: Message) -> list[Message]:
        """Run one chunk of one group, and what follows it; returns what it answers, dead letters
        left out."""
        rows = await self._replica.run(*commands)
        await self.admitter.returns.give_back()
        return [_read(row) for row in rows if row.message_type != "DeadLetter"]

    async def run_chunk(self, deliveries: Sequence[Delivery]) -> list[Message]:
        """The same of a chunk as it came off its partitions."""
        rows = await self._replica.run_chunk(deliveries)
        await self.admitter.returns.give_back()
        return [_read(row) for row in rows if row.message_type != "DeadLetter"]


class MakeReplica(Protocol):
    """The fixture `replica`."""

    def __call__(self, number: int, on: Pool | None = None) -> Replica: ...


class Counters(Protocol):
    """The fixture `counters`."""

    async def __call__(self, product_id: str = ...) -> tuple[int, ...]: ...


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock", max_connections=12) as pool:
        yield pool


@pytest.fixture
async def replica(pool: Pool, valkey: Valkey) -> AsyncIterator[MakeReplica]:
    """Makes instances on the test's database: `replica(1)`, or on a pool of the test's own."""
    made: list[Replica] = []

    def make(number: int, on: Pool | None = None) -> Replica:
        made.append(Replica(number, on or pool, valkey.url))
        return made[-1]

    yield make
    for each in made:
        await each.admitter.counters.close()


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
