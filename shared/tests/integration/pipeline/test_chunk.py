"""A chunk on Postgres: one transaction, run until it holds, halved where a message is at fault."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.contracts.base import message_id
from shared.contracts.stock import CommitStock, StockCommitted
from shared.database import connect_pool
from shared.pipeline import ApartError, Conflict, Delivery, Outgoing, Refusal, Route
from shared.pipeline.chunk import FAULTY
from shared.telemetry import metrics
from shared.testing.builders import commit_stock
from shared.testing.replicas import TRACEPARENT, deliver
from shared.testing.signals import Gate, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.database import Connection, Pool
    from shared.pipeline import Handler
    from shared.testing.databases import Database
    from shared.testing.proxy import Proxy

    from .conftest import Bench, MakeBench

pytestmark = pytest.mark.usefixtures("at_once")


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
            results.append(
                Outgoing("stock.replies.v1", order_id, reply, message_id(reply), TRACEPARENT)
            )
        if self.errors:
            raise self.errors.pop(0)
        if self.gate is not None:
            await self.gate.stop()
        return results


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
def bench(handler: Effects, pool: Pool, make_bench: MakeBench) -> Bench:
    return make_bench(Route("bench", ("stock.commands.v1",), handler), pool)


def commits(*order_ids: str) -> list[Delivery]:
    return deliver(*map(commit_stock, order_ids), partition=2, offsets=count())


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


async def test_a_message_that_loses_every_race_holds_up_itself_alone(
    bench: Bench, pool: Pool, make_bench: MakeBench
) -> None:
    """A bug, since somebody wins each race. It is told, and the others go on."""
    never = asyncio.Event()

    class Loser(Effects):
        async def __call__(
            self, connection: Connection, deliveries: Sequence[Delivery]
        ) -> Sequence[Outgoing | Refusal]:
            results = await super().__call__(connection, deliveries)
            if "o-3" in self.chunks[-1] and not never.is_set():
                raise Conflict("o-3 again")
            return results

    bench = make_bench(Route("bench", ("stock.commands.v1",), Loser()), pool)
    running = asyncio.create_task(
        bench.runner.run(commits(*[f"o-{number}" for number in range(4)]), ())
    )
    await eventually(bench.effects, accept=lambda found: set(found) == {"o-0", "o-1", "o-2"})
    assert not running.done()
    never.set()
    await running
    assert set(await bench.effects()) == {f"o-{number}" for number in range(4)}
    assert bench.relay.ids("bench.dlq.v1") == []


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
    bench: Bench,
    handler: Effects,
    make_bench: MakeBench,
    database: Database,
    postgres_proxy: Proxy,
) -> None:
    dsn = postgres_proxy.through(database.dsn("stock"))
    async with connect_pool(dsn, name="stock", max_connections=2) as pool:
        behind = make_bench(Route("bench", ("stock.commands.v1",), handler), pool)
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
    monkeypatch.setattr(bench.pool, "_acquire_timeout_s", 0.01)
    before = metrics.RETRIES.labels("bench", "timeout")._value.get()
    longer = {"timeout": 10.0}
    async with (
        bench.pool.acquire(**longer), bench.pool.acquire(**longer), bench.pool.acquire(**longer),
    ):  # fmt: skip
        async with bench.pool.acquire(**longer):
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


async def test_what_was_asked_for_a_chunk_lasts_until_its_transaction_has_ended(
    handler: Effects, pool: Pool, make_bench: MakeBench
) -> None:
    """It is asked anew before each attempt, and let go of whether that was committed or not."""
    seen: list[str] = []

    @asynccontextmanager
    async def begin(deliveries: Sequence[Delivery]) -> AsyncIterator[Handler]:
        seen.append("asked")
        try:
            yield handler
        finally:
            async with pool.acquire() as connection:
                effects = await connection.fetchval("SELECT count(*) FROM effect")
            seen.append(f"let go with {effects} saved")

    bench = make_bench(Route("bench", ("stock.commands.v1",), handler, begin=begin), pool)
    handler.errors = [Conflict("lost")]

    await bench.runner.run(commits("o-1"), ())

    assert seen == ["asked", "let go with 0 saved", "asked", "let go with 1 saved"]


async def test_those_that_have_to_wait_come_after_the_others_are_committed(
    bench: Bench, handler: Effects
) -> None:
    chunk = commits("late-1", "o-1", "late-2", "o-2")
    handler.errors = [ApartError([chunk[0], chunk[2]])]

    await bench.runner.run(chunk, ())

    assert handler.chunks == [
        ["late-1", "o-1", "late-2", "o-2"],
        ["o-1", "o-2"],
        ["late-1", "late-2"],
    ]
    assert bench.relay.ids("stock.replies.v1") == replies("o-1", "o-2", "late-1", "late-2")
