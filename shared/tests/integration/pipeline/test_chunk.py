"""A chunk on Postgres: one transaction, run until it holds, halved where a message is at fault."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared import backoff
from shared.contracts.base import fingerprint, message_id
from shared.contracts.stock import AdjustStock, CommitStock, StockAdjusted, StockCommitted
from shared.database import connect_pool
from shared.pipeline import Conflict, Delivery, Outgoing, Refusal, Route
from shared.pipeline.answers import answer_with_command_refused
from shared.pipeline.chunk import FAULTY, ChunkRunner
from shared.pipeline.messages import Received
from shared.telemetry import metrics
from shared.testing.builders import adjust_stock, commit_stock
from shared.testing.signals import Gate, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.contracts.base import Message
    from shared.database import Connection, Pool
    from shared.pipeline.outbox import Chunk, Row
    from shared.testing.databases import Database
    from shared.testing.proxy import Proxy

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Relay:
    """Keeps what it is given."""

    owner = "stock-0"

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def submit(self, chunks: Sequence[Chunk]) -> None:
        self.rows.extend(row for chunk in chunks for row in chunk.rows)

    def ids(self, topic: str) -> list[str]:
        return [row.message_id for row in self.rows if row.topic == topic]


class Effects:
    """A handler whose effect is a row for each order, in a table of its own; fails as told."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        """Raised by the next calls, one each."""
        self.chunks: list[list[str]] = []
        self.gate: Gate | None = None

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Refusal]:
        commands = [delivery.message for delivery in deliveries]
        assert all(isinstance(command, CommitStock) for command in commands)
        self.chunks.append([command.order_id for command in commands])  # type: ignore[attr-defined]
        results = []
        for delivery in deliveries:
            order_id: str = delivery.message.order_id  # type: ignore[attr-defined]
            if order_id.startswith("poison"):
                raise ZeroDivisionError
            if not delivery.duplicate:
                value = "1e99" if order_id.startswith("overflow") else "1"
                await connection.execute(
                    "INSERT INTO effect (order_id, units) VALUES ($1, $2::text::float8::integer)",
                    order_id, value,
                )  # fmt: skip
            reply = StockCommitted(command_id=f"{order_id}:commit:do", order_id=order_id)
            results.append(Outgoing("stock.replies.v1", order_id, reply, message_id(reply), TRACE))
        if self.errors:
            raise self.errors.pop(0)
        if self.gate is not None:
            await self.gate.stop()
        return results


class Bench:
    """A runner with its handler, its relay and its database."""

    def __init__(self, route: Route, pool: Pool, database: Database) -> None:
        self.relay = Relay()
        self.pool = pool
        self.database = database
        self.runner = ChunkRunner(route, pool, self.relay, lease_s=30.0)  # type: ignore[arg-type]

    async def effects(self) -> dict[str, int]:
        async with self.database.connection("stock") as connection:
            rows = await connection.fetch("SELECT order_id, units FROM effect")
        return {row["order_id"]: row["units"] for row in rows}

    async def count(self, table: str) -> int:
        async with self.database.connection("stock") as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "delay_s", lambda _: 0.0)


@pytest.fixture(scope="module")
async def effect_table(module_database: Database) -> None:
    async with module_database.connection("stock") as connection:
        await connection.execute(
            "CREATE TABLE effect (order_id text PRIMARY KEY, units integer NOT NULL)"
        )


@pytest.fixture
async def pool(database: Database, effect_table: None) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock", max_connections=4) as pool:
        yield pool


@pytest.fixture
def handler() -> Effects:
    return Effects()


@pytest.fixture
def bench(handler: Effects, pool: Pool, database: Database) -> Bench:
    return Bench(Route("bench", ("stock.commands.v1",), handler), pool, database)


def deliver(*messages: Message, topic: str = "stock.commands.v1") -> list[Delivery]:
    return [
        Delivery(
            message, message_id(message), fingerprint(message),
            Received(topic, 2, offset, 0, b"k", message.to_bytes(), TRACE), TRACE,
        )
        for offset, message in enumerate(messages)
    ]  # fmt: skip


def commits(*order_ids: str) -> list[Delivery]:
    return deliver(*map(commit_stock, order_ids))


def replies(*order_ids: str) -> list[str]:
    return [f"{order_id}:commit:do" for order_id in order_ids]


async def test_effects_replies_and_ids_are_one_transaction(bench: Bench) -> None:
    await bench.runner.run(commits("o-1", "o-2"), ())
    assert await bench.effects() == {"o-1": 1, "o-2": 1}
    assert bench.relay.ids("stock.replies.v1") == replies("o-1", "o-2")
    assert (await bench.count("inbox"), await bench.count("outbox_message")) == (2, 2)


async def test_f1_a_chunk_again_gives_the_same_replies_and_no_effect(bench: Bench) -> None:
    for _ in range(2):
        await bench.runner.run(commits("o-1", "o-2"), ())
    assert await bench.effects() == {"o-1": 1, "o-2": 1}
    assert bench.relay.ids("stock.replies.v1") == replies("o-1", "o-2") * 2


@pytest.mark.parametrize("bad", ["poison-1", "overflow-1"])
@pytest.mark.parametrize("place", [0, 3, 6])
async def test_a_message_at_fault_is_found_and_its_neighbours_go_on(
    bench: Bench, bad: str, place: int
) -> None:
    order_ids = [f"o-{number}" for number in range(6)]
    chunk = [*order_ids[:place], bad, *order_ids[place:]]
    await bench.runner.run(commits(*chunk), ())
    assert set(await bench.effects()) == set(order_ids)
    assert bench.relay.ids("stock.replies.v1") == replies(*order_ids), "in their order"
    (letter,) = [row for row in bench.relay.rows if row.topic == "bench.dlq.v1"]
    assert letter.message_id == f"stock.commands.v1:2:{place}"
    assert letter.value == commit_stock(bad).to_bytes()
    assert letter.headers is not None
    assert letter.headers["dlq-reason"] == FAULTY
    assert letter.headers["dlq-attempts"] == "1"
    assert await bench.count("inbox") == len(order_ids), "it may be replayed under its id"


async def test_a_broken_constraint_is_looked_at_again_before_it_is_a_fault(
    bench: Bench, handler: Effects
) -> None:
    handler.errors = [asyncpg.UniqueViolationError("another was faster")]
    await bench.runner.run(commits("o-1"), ())
    assert await bench.effects() == {"o-1": 1}
    assert bench.relay.ids("bench.dlq.v1") == []
    handler.errors = [asyncpg.UniqueViolationError("")] * 2
    await bench.runner.run(commits("o-2"), ())
    (letter,) = [row for row in bench.relay.rows if row.topic == "bench.dlq.v1"]
    assert letter.headers is not None
    assert letter.headers["dlq-attempts"] == "2"
    assert set(await bench.effects()) == {"o-1"}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Conflict("lost"), "conflict"),
        (asyncpg.DeadlockDetectedError(""), "deadlock"),
        (asyncpg.SerializationError(""), "deadlock"),
        (asyncpg.LockNotAvailableError(""), "timeout"),
        (asyncpg.QueryCanceledError(""), "timeout"),
        (asyncpg.DiskFullError(""), "postgres"),
        (asyncpg.UndefinedTableError(""), "postgres"),
        (asyncpg.AdminShutdownError(""), "postgres"),
        (ConnectionResetError(), "connection"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_f48_a_fault_of_the_infrastructure_is_waited_out(
    bench: Bench, handler: Effects, error: Exception, cause: str
) -> None:
    before = metrics.RETRIES.labels("bench", cause)._value.get()
    handler.errors = [error] * 5
    await bench.runner.run(commits("o-1", "o-2"), ())
    assert handler.chunks == [["o-1", "o-2"]] * 6, "whole each time: nobody is at fault"
    assert set(await bench.effects()) == {"o-1", "o-2"}
    assert bench.relay.ids("bench.dlq.v1") == []
    assert metrics.RETRIES.labels("bench", cause)._value.get() == before + 5


async def test_a_fault_of_the_infrastructure_during_the_search_does_not_condemn_the_innocent(
    bench: Bench, handler: Effects
) -> None:
    handler.errors = [
        asyncpg.CheckViolationError("the whole chunk"),
        ConnectionResetError("the first half"),
        asyncpg.CheckViolationError("the first half again, alone"),
        ConnectionResetError("and its second look"),
    ]
    await bench.runner.run(commits("o-1", "o-2"), ())
    assert set(await bench.effects()) == {"o-1", "o-2"}
    assert bench.relay.ids("bench.dlq.v1") == []


async def test_f47_the_retry_after_a_lost_reply_to_commit_finds_its_own_work(
    bench: Bench, handler: Effects, database: Database, postgres_proxy: Proxy
) -> None:
    dsn = postgres_proxy.through(database.dsn("stock"))
    async with connect_pool(dsn, name="stock", max_connections=2) as pool:
        behind = Bench(Route("bench", ("stock.commands.v1",), handler), pool, database)
        await behind.runner.run(commits("o-0"), ())
        postgres_proxy.lose_reply_to(b"COMMIT;", times=2)
        await behind.runner.run(commits("o-1", "o-2"), ())
        assert postgres_proxy.stats.replies_lost == 2
    assert handler.chunks == [["o-0"], *([["o-1", "o-2"]] * 3)]
    assert await bench.effects() == {"o-0": 1, "o-1": 1, "o-2": 1}
    # the relay has the last attempt's; those of the first two are the sweeper's to publish
    assert behind.relay.ids("stock.replies.v1") == replies("o-0", "o-1", "o-2")
    assert await bench.count("outbox WHERE published_at IS NULL") == 4


async def test_f50_a_chunk_that_is_cancelled_leaves_nothing(bench: Bench, handler: Effects) -> None:
    handler.gate = Gate("inside of the transaction")
    task = asyncio.create_task(bench.runner.run(commits("o-1"), ()))
    await handler.gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.effects() == {}
    assert (await bench.count("inbox"), await bench.count("outbox_message")) == (0, 0)
    handler.gate.open()
    await bench.runner.run(commits("o-1"), ())
    assert await bench.effects() == {"o-1": 1}


async def test_f49_a_pool_without_a_free_connection_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pipeline.chunk.ACQUIRE_TIMEOUT_S", 0.01)
    before = metrics.RETRIES.labels("bench", "timeout")._value.get()
    async with bench.pool.acquire(), bench.pool.acquire(), bench.pool.acquire():
        async with bench.pool.acquire():
            task = asyncio.create_task(bench.runner.run(commits("o-1"), ()))
            await eventually(
                lambda: metrics.RETRIES.labels("bench", "timeout")._value.get() >= before + 2
            )
        await asyncio.wait_for(task, 10)
    assert await bench.effects() == {"o-1": 1}


async def test_an_id_with_other_content_is_dead_lettered_and_the_first_counts(
    bench: Bench,
) -> None:
    other = CommitStock(command_id="o-1:commit:do", order_id="o-2")
    await bench.runner.run(deliver(commit_stock("o-1"), other, commit_stock("o-3")), ())
    assert set(await bench.effects()) == {"o-1", "o-3"}
    (letter,) = [row for row in bench.relay.rows if row.topic == "bench.dlq.v1"]
    assert letter.headers is not None
    assert letter.headers["dlq-reason"] == "command_id_reused"


class Administration:
    """A handler that grants what is positive and refuses the rest."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Refusal]:
        results: list[Outgoing | Refusal] = []
        for delivery in deliveries:
            command = delivery.message
            assert isinstance(command, AdjustStock)
            assert not delivery.duplicate
            self.seen.append(command.command_id)
            if command.delta < 0:
                results.append(
                    Refusal(delivery.received, "insufficient_stock", "too little", command)
                )
            else:
                event = StockAdjusted(
                    command_id=command.command_id, product_id=command.product_id,
                    delta=command.delta, available=len(self.seen),
                )  # fmt: skip
                results.append(
                    Outgoing("stock.events.v1", command.product_id, event, message_id(event), TRACE)
                )
        return results


@pytest.fixture
def administration() -> Administration:
    return Administration()


@pytest.fixture
def office(administration: Administration, pool: Pool, database: Database) -> Bench:
    route = Route(
        "office", ("stock.admin.v1",), administration,
        refused=answer_with_command_refused("stock.events.v1"), keeps_answers=True,
    )  # fmt: skip
    return Bench(route, pool, database)


def adjustments(*commands: AdjustStock) -> list[Delivery]:
    return deliver(*commands, topic="stock.admin.v1")


async def test_a_kept_answer_is_given_again_and_the_handler_is_not_asked(
    office: Bench, administration: Administration
) -> None:
    first, second = (adjust_stock(delta=1, command_id=f"c-{n}") for n in range(2))
    await office.runner.run(adjustments(first), ())
    await office.runner.run(adjustments(first, second, first, second), ())
    await office.runner.run(adjustments(second, first), ())
    assert administration.seen == ["c-0", "c-1"]
    values = {row.message_id: row.value for row in office.relay.rows}
    ids = [row.message_id for row in office.relay.rows]
    assert (ids[:3], sorted(ids[3:])) == (["c-0", "c-0", "c-1"], ["c-0", "c-1"])
    assert all(row.value == values[row.message_id] for row in office.relay.rows)


async def test_a_refused_request_is_dead_lettered_answered_and_may_come_again(
    office: Bench, administration: Administration
) -> None:
    refused = adjust_stock(delta=-5, command_id="c-1")
    for _ in range(2):
        await office.runner.run(adjustments(refused), ())
    assert administration.seen == ["c-1", "c-1"], "its id is free: it is decided anew"
    assert office.relay.ids("office.dlq.v1") == ["stock.admin.v1:2:0"] * 2
    assert office.relay.ids("stock.events.v1") == ["c-1:AdjustStock:insufficient_stock"] * 2
    assert await office.count("inbox") == 0
    corrected = adjust_stock(delta=5, command_id="c-1")
    await office.runner.run(adjustments(corrected), ())
    assert office.relay.ids("stock.events.v1")[-1] == "c-1"


async def test_invariant_8_each_copy_of_a_refused_request_is_a_dead_letter(office: Bench) -> None:
    """Every message that was passed over is in the inbox or in the dead letters."""
    refused = adjust_stock(delta=-5, command_id="c-1")
    await office.runner.run(adjustments(refused, refused, refused), ())
    assert sorted(office.relay.ids("office.dlq.v1")) == [
        f"stock.admin.v1:2:{offset}" for offset in range(3)
    ]
    assert set(office.relay.ids("stock.events.v1")) == {"c-1:AdjustStock:insufficient_stock"}


async def test_refusals_without_deliveries_are_a_chunk_too(office: Bench) -> None:
    received = Received("stock.admin.v1", 0, 7, 0, None, b"\xff", TRACE)
    await office.runner.run((), [Refusal(received, "not_json", "no JSON")])
    assert office.relay.ids("office.dlq.v1") == ["stock.admin.v1:0:7"]
    assert office.relay.ids("stock.events.v1") == [], "nobody can be told"
