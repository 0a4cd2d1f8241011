"""At which level the pipeline's transactions run, and what would go wrong otherwise.

docs/isolation.md has the table; each service shows its own pairs in a file of this name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.database import Queries, connect_pool, migrations
from shared.database.migrations import MigrationError, migrate
from shared.lease import Lease
from shared.pipeline import outbox
from shared.testing.interleaving import lock_waiters, stopping_pool, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.databases import Database, Postgres, Template

HIGHER = ["repeatable read", "serializable"]


@pytest.fixture
async def database(template: Template) -> AsyncIterator[Database]:
    """One of the test's own: its defaults and its list of migrations are changed."""
    async with template.clone() as database:
        yield database


@pytest.mark.parametrize("level", HIGHER)
class TestServersDefault:
    """What a server's default says changes nothing."""

    async def set_default(self, database: Database, level: str) -> None:
        async with database.connection() as admin:
            await admin.execute(
                f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = '{level}'"
            )

    async def test_a_pool_runs_at_read_committed(self, database: Database, level: str) -> None:
        await self.set_default(database, level)
        async with (
            connect_pool(database.dsn("stock"), name="stock-0", max_connections=1) as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            assert await connection.fetchval("SHOW transaction_isolation") == "read committed"

    async def test_who_migrates_sees_what_was_done_while_it_waited(
        self, database: Database, level: str
    ) -> None:
        """At a higher level its view would be older than the lock."""
        await self.set_default(database, level)
        await self.change_while_it_waits(database)

    async def test_at_a_higher_level_it_would_not(
        self, database: Database, level: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(migrations, "_AFTER_THE_LOCK", level.replace(" ", "_"))
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            await self.change_while_it_waits(database)

    async def change_while_it_waits(self, database: Database) -> None:
        async with database.connection("stock") as first:
            async with first.transaction():
                await first.execute("SELECT pg_advisory_xact_lock(hashtext('stock'))")
                waiting = asyncio.create_task(migrate(database.dsn("stock"), "stock", "stock"))
                await lock_waiters(database)
                await first.execute("UPDATE schema_migration SET checksum = 'other'")
            with pytest.raises(MigrationError, match="was changed after it ran"):
                await waiting


class TestLease:
    """One statement reads and takes it: who waited for the row looks at it again."""

    async def test_read_and_then_written_it_has_two_holders(self, database: Database) -> None:
        held = "SELECT true FROM lease WHERE name = 'feed' AND until > now()"
        take = (
            "INSERT INTO lease VALUES ('feed', $1, 1, now() + interval '1 h')"
            " ON CONFLICT (name) DO UPDATE SET holder = $1"
        )
        took = []
        async with database.connection("stock") as one, database.connection("stock") as other:
            found = [(each, await each.fetchval(held)) for each in (one, other)]
            for holder, (connection, is_held) in enumerate(found):
                if not is_held:
                    await connection.execute(take, f"stock-{holder}")
                    took.append(holder)
        assert took == [0, 1]

    async def test_ours_has_one(self, database: Database) -> None:
        queries = Queries("shared", "database/sql/pipeline.sql")
        async with (
            stopping_pool(database.dsn("stock")) as (pool, _),
            database.connection("stock") as one,
        ):
            async with one.transaction():
                assert await queries.take_lease.value(
                    one, name="feed", holder="stock-0", lease_s=60.0
                )
                taking = asyncio.create_task(Lease(pool, "feed", "stock-1", lease_s=60.0).take())
                await lock_waiters(database)
            assert await taking is None


class TestSweepers:
    """Two instances look for what a third one left."""

    async def claim(self, connection: Postgres, owner: str) -> int:
        chunks = await outbox.claim_unpublished(
            connection, owner=owner, lease_s=30.0, own_grace_s=3.0, in_memory=[], limit_chunks=5
        )
        return len(chunks)

    async def claim_twice(self, database: Database, *, waits: bool) -> list[int]:
        async with database.connection("stock") as one, database.connection("stock") as other:
            await one.execute(
                "INSERT INTO outbox (owner, public, lease_until, messages)"
                " VALUES ('stock-9', true, now() - interval '1 s', '[]')"
            )
            async with one.transaction():
                first = await self.claim(one, "stock-0")
                claiming = asyncio.create_task(self.claim(other, "stock-1"))
                await (lock_waiters(database) if waits else claiming)
            return [first, await claiming]

    async def test_without_a_lock_both_publish(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without(monkeypatch, outbox._queries, "claim_unpublished", "FOR UPDATE SKIP LOCKED")
        assert await self.claim_twice(database, waits=True) == [1, 1]

    async def test_ours_passes_by(self, database: Database) -> None:
        assert await self.claim_twice(database, waits=False) == [1, 0]
