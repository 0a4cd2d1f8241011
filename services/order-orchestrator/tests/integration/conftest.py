"""Instances of the orchestrator in one process: the real pipeline on a real database, no Kafka."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytest

from order_orchestrator.admission import Admission, AdmissionLoop
from order_orchestrator.chunk import Sagas
from order_orchestrator.consumers import routes
from order_orchestrator.dead_letters import DeadLetterReader
from order_orchestrator.domain import Limits, Saga
from order_orchestrator.store import SagaMemory, Store, queries, read_saga
from order_orchestrator.timers import ParkedCommands, Timers
from shared.audit import Source, audit
from shared.contracts.base import Message
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS
from shared.database import connect_pool
from shared.pipeline.messages import Received, Refusal
from shared.pipeline.work import Work
from shared.testing import replicas
from shared.testing.replicas import LEASE_S, TRACEPARENT, RecordingRelay, deliver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from order_orchestrator.chunk import SagaChunk
    from shared.database import Pool
    from shared.pipeline.outbox import Row
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database
    from shared.testing.signals import Gate

ALL_READ = datetime.max.replace(tzinfo=UTC)
NOTHING_READ = datetime.min.replace(tzinfo=UTC)
QUICK = Limits(
    resend_after=timedelta(milliseconds=1),
    resend_at_most=timedelta(milliseconds=1),
    order_deadline=timedelta(milliseconds=2),
    pay_deadline=timedelta(milliseconds=1),
    reading_grace=timedelta(0),
    undo_sends=3,
)
"""Every timer is due at once."""


@dataclass(frozen=True, slots=True)
class GatedSagas(Sagas):
    """Sagas that stop between load and save, where a test has put a gate."""

    gates: list[Gate]

    async def load(self, store: Store, order_ids: Iterable[str]) -> SagaChunk:
        chunk = await Sagas.load(self, store, order_ids)
        if self.gates:
            await self.gates.pop(0).stop()
        return chunk


class Horizon:
    """Stands where the read horizon does."""

    def __init__(self, read_up_to: datetime) -> None:
        self.read_up_to = read_up_to


class Replica(replicas.Replica):
    """One instance, with a memory, an admission and connections of its own."""

    def __init__(self, number: int, pool: Pool, limits: Limits, sagas_waiting: int) -> None:
        self.gates: list[Gate] = []
        self.memory = SagaMemory(1_000)
        self.sagas = GatedSagas(limits, self.memory, self.gates)
        self.admission = Admission(sagas_waiting)
        self.admission.counted(0, pending=False)
        super().__init__(
            f"order-orchestrator-{number}", pool, routes("KRW", self.sagas, self.admission)
        )
        self.recorder = RecordingRelay(self.owner)
        """Has what is written beside the chunks: by timers, at admission."""
        self.work = Work(pool, cast("Relay", self.recorder), lease_s=LEASE_S)

    async def run(self, *messages: Message | Unreadable) -> list[Row]:
        """Run one chunk of one group; the unreadable are requests."""
        deliveries = deliver(*(one for one in messages if isinstance(one, Message)))
        refusals = [_refusal(one) for one in messages if isinstance(one, Unreadable)]
        return await self.run_chunk(deliveries, refusals)

    def commands(self, rows: Sequence[Row]) -> list[Any]:
        """The commands among rows of the outbox."""
        topics = {name for name, topic in TOPICS.items() if topic.kind == "commands"}
        return [reader_of(TOPICS[row.topic]).read(row.value) for row in rows if row.topic in topics]

    async def dead_letter(self, *messages: Message) -> list[Row]:
        """Run one chunk of the group that reads internal dead letters."""
        reader = DeadLetterReader()
        deliveries = [
            delivery._replace(message=reader.read(delivery.received.value))
            for delivery in deliver(*messages, topic="stock.dlq.v1")
        ]
        return await self.run_chunk(deliveries)

    async def fire(self, *, replies: datetime = ALL_READ, requests: datetime = ALL_READ) -> int:
        """One pass of the timers, which know messages to be read up to these moments."""
        timers = Timers(
            self.work, self.sagas, cast("Any", Horizon(replies)), cast("Any", Horizon(requests))
        )
        return (await timers.run_once()).chunks

    async def admit(self) -> int:
        """One pass of the admission loop, with a count of its own."""
        loop = AdmissionLoop(self.admission, self.pool, self.work, self.sagas, interval_s=0.01)
        return (await loop.run_once()).chunks

    async def sweep_parked(self, keep_s: float = 86_400.0) -> int:
        """One pass over the commands that came before their order."""
        return (await ParkedCommands(self.work, self.sagas, keep_s=keep_s).run_once()).chunks

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """The tables, in a transaction of the test's own."""
        async with self.pool.acquire() as connection, connection.transaction():
            yield self.sagas.store(connection)

    async def saga(self, order_id: str) -> Saga:
        """The saga as its row says, whatever is remembered."""
        async with self.pool.acquire() as connection:
            row = await queries.read_saga.row(connection, order_id=order_id)
        assert row is not None, f"{order_id} is not stored"
        return read_saga(row)

    async def history(self, order_id: str) -> list[tuple[int, str, str]]:
        """(version, state, cause) of each transition."""
        async with self.pool.acquire() as connection:
            rows = await queries.read_history.rows(connection, order_id=order_id)
        return [(row["version"], row["state"], row["cause"]) for row in rows]

    async def value(self, sql: str, *arguments: Any) -> Any:
        async with self.pool.acquire() as connection:
            return await connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: Any) -> None:
        async with self.pool.acquire() as connection:
            await connection.execute(sql, *arguments)


class MakeReplica(Protocol):
    """The fixture `replica`."""

    async def __call__(self, limits: Limits = ..., *, sagas_waiting: int = ...) -> Replica: ...


@pytest.fixture
async def replica(database: Database) -> AsyncIterator[MakeReplica]:
    """Makes instances on the test's database."""
    numbers = count()
    async with AsyncExitStack() as stack:

        async def make(limits: Limits = Limits(), *, sagas_waiting: int = 1_000) -> Replica:  # noqa: B008
            number = next(numbers)
            pool = connect_pool(database.dsn("orders"), name=f"orders-{number}", max_connections=6)
            return Replica(number, await stack.enter_async_context(pool), limits, sagas_waiting)

        yield make


@pytest.fixture
async def sound(database: Database) -> AsyncIterator[None]:
    """Every invariant that holds at any moment is checked after the test."""
    yield
    sources = [Source("orders", "order_orchestrator")]
    (await audit(database.operator_dsn, sources, only_always=True)).require()


@pytest.fixture
def said() -> Callable[[Sequence[Row]], list[str]]:
    """What rows of the outbox say, in a word each: ids of commands and events, `refused too_late`
    or the reason of a dead letter."""

    def words(rows: Sequence[Row]) -> list[str]:
        return [_word(row) for row in rows]

    return words


def _word(row: Row) -> str:
    if row.headers and "dlq-reason" in row.headers:
        return f"dead letter {row.headers['dlq-reason']}"
    if row.message_type == "CommandRefused":
        return f"refused {row.message_id.rpartition(':')[2]}"
    return row.message_id


def _refusal(unreadable: Unreadable) -> Refusal:
    received = Received("orders.commands.v1", 0, 0, 0, None, b"{}", TRACEPARENT)
    return Refusal(received, unreadable.reason, unreadable.detail, unreadable=unreadable)
