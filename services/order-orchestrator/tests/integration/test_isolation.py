"""What would go wrong at the level below, or without the protection, and that it doesn't here.

Each pair is one interleaving of two transactions: docs/isolation.md has the table.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from order_orchestrator.api import OperatorApi
from order_orchestrator.domain import Limits
from order_orchestrator.store import queries
from shared.audit import Source, audit
from shared.testing.builders import cancel_order, pay_order, place_order
from shared.testing.interleaving import Level, lock_waiters, stopping_pool, without

from .conftest import Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Statement
    from shared.testing.databases import Database
    from shared.testing.signals import Gate

    from .conftest import MakeReplica

Answers = Any


@asynccontextmanager
async def stopping(
    database: Database, after: Statement, level: Level | None = None
) -> AsyncIterator[tuple[Replica, Gate]]:
    """An instance that stops once it has run that statement."""
    async with stopping_pool(database.dsn("orders"), after=after, level=level) as (pool, gate):
        yield Replica(9, pool, Limits(), 1_000), gate


async def violations(database: Database) -> set[str]:
    sources = [Source("orders", "order_orchestrator")]
    report = await audit(database.operator_dsn, sources, only_always=True)
    return {check.name for check in report.violations}


class TestLostUpdate:
    """Of a saga: a reply, and the user's cancellation, on two instances. The row is locked, and its
    version compared besides."""

    async def race(
        self, database: Database, one: Replica, answers: Answers, *, waits: bool
    ) -> list[tuple[int, str, str]]:
        """The reply stops once it has read the saga; what the saga's history says in the end."""
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        async with stopping(database, queries.read_sagas) as (late, gate):
            replying = asyncio.create_task(late.run(answers.done(reserve)))
            await gate.reached()
            cancelling = asyncio.create_task(one.run(cancel_order("o-1")))
            await (lock_waiters(database) if waits else cancelling)
            gate.open()
            await asyncio.gather(replying, cancelling)
        return await one.history("o-1")

    async def test_without_lock_and_version_the_cancellation_is_lost(
        self,
        database: Database,
        replica: MakeReplica,
        answers: Answers,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        without(monkeypatch, queries, "lock_sagas", "FOR UPDATE")
        without(monkeypatch, queries, "update_sagas", "AND saga.version = row.old_version")
        found = await self.race(database, await replica(), answers, waits=False)
        assert [version for version, _, _ in found] == [1, 2, 2]
        assert found[-1][1] == "CHARGING", "an order that its user cancelled is charged"
        assert await violations(database) != set()

    async def test_without_the_lock_the_late_writer_loses_by_its_version(
        self,
        database: Database,
        replica: MakeReplica,
        answers: Answers,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        without(monkeypatch, queries, "lock_sagas", "FOR UPDATE")
        found = await self.race(database, await replica(), answers, waits=False)
        assert [version for version, _, _ in found] == [1, 2, 3]
        assert found[-1][1] == "COMPENSATING"
        assert await violations(database) == set()

    async def test_ours_waits_for_the_row(
        self, database: Database, replica: MakeReplica, answers: Answers
    ) -> None:
        found = await self.race(database, await replica(), answers, waits=True)
        assert [version for version, _, _ in found] == [1, 2, 3]
        assert await violations(database) == set()


class TestWriteSkew:
    """A payment finds no order and is parked; its order finds nothing parked, and is stored. Each
    writes what the other has looked for."""

    async def race(self, database: Database, level: Level | None) -> Replica:
        async with (
            stopping(database, queries.lock_sagas, level) as (paying, gate),
            stopping_pool(database.dsn("orders"), level=level) as (pool, _),
        ):
            parking = asyncio.create_task(paying.run(pay_order("o-1")))
            await gate.reached()
            placing = Replica(8, pool, Limits(), 1_000)
            await placing.run(place_order("o-1", pay="later"))
            gate.open()
            await parking
        return placing

    @pytest.mark.parametrize("level", ["read_committed", "repeatable_read"])
    async def test_below_serializable_a_payment_stays_parked_beside_its_order(
        self, database: Database, level: Level
    ) -> None:
        await self.race(database, level)
        assert await violations(database) == set(), "it is no violation for a moment"
        assert await parked(database) == 1

    async def test_serializable_turns_one_back(self, database: Database) -> None:
        await self.race(database, "serializable")
        assert await parked(database) == 0

    async def test_ours_is_found_by_the_next_pass(
        self, database: Database, replica: MakeReplica
    ) -> None:
        await self.race(database, None)
        one = await replica()
        assert await one.sweep_parked() == 1
        assert await parked(database) == 0
        assert (await one.saga("o-1")).pay_command_id == "o-1:pay"


class TestTornPage:
    """A saga and its history, while it moves on between the two statements."""

    async def read(
        self, database: Database, one: Replica, answers: Answers, level: Level | None
    ) -> tuple[int, int]:
        """The version of the row, and the last one of the history."""
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        async with stopping(database, queries.read_saga, level) as (reader, gate):
            pages = OperatorApi(reader.pool, reader.work, reader.sagas)
            reading = asyncio.create_task(pages._read("o-1"))
            await gate.reached()
            await one.run(answers.done(reserve))
            gate.open()
            row, history, _ = await reading
        assert row is not None
        return row["version"], history[-1]["version"]

    async def test_at_read_committed_the_history_is_ahead_of_its_row(
        self, database: Database, replica: MakeReplica, answers: Answers
    ) -> None:
        assert await self.read(database, await replica(), answers, "read_committed") == (1, 2)

    async def test_ours_is_of_one_moment(
        self, database: Database, replica: MakeReplica, answers: Answers
    ) -> None:
        assert await self.read(database, await replica(), answers, None) == (1, 1)


async def parked(database: Database) -> int:
    async with database.connection("orders") as connection:
        return int(await connection.fetchval("SELECT count(*) FROM parked_command"))
