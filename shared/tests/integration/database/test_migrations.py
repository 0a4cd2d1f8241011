"""Migrations on a real server: once each, whoever else starts, and never changed afterwards."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.database import migrations
from shared.database.migrations import Migration, MigrationError, load_migrations, migrate, pending
from shared.testing.databases import Database, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from local_stack import Environment

FIRST = Migration("made_up", 1, "first", "CREATE TABLE lamp (id text PRIMARY KEY);")
SECOND = Migration("made_up", 2, "second", "ALTER TABLE lamp ADD COLUMN watts integer;")
BROKEN = Migration("made_up", 2, "broken", "CREATE TABLE half_done (); SELECT nonsense;")


@pytest.fixture
async def bare(environment: Environment) -> AsyncIterator[Database]:
    """A database with the schema and role `stock`, and nothing in it."""
    server = Server(environment.admin_database_url, environment["ROLE_PASSWORD"])
    name = f"test_bare_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(server.admin_dsn)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        # Roles are the server's: who else makes some waits here.
        await admin.execute("SELECT pg_advisory_lock(hashtext('test template'))")
        try:
            await migrations.bootstrap(server.as_admin(name), ["stock"], server.password)
        finally:
            await admin.execute("SELECT pg_advisory_unlock(hashtext('test template'))")
        yield Database(server, name)
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what migrations the package `made_up` brings."""

    def bring(*found: Migration) -> None:
        def load(package: str) -> list[Migration]:
            return list(found) if package == "made_up" else load_migrations(package)

        monkeypatch.setattr(migrations, "load_migrations", load)

    return bring


async def tables(database: Database) -> set[str]:
    async with database.connection("stock") as connection:
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
    return {row["tablename"] for row in rows}


async def test_the_second_run_does_nothing(bare: Database) -> None:
    ran = await migrate(bare.dsn("stock"), "stock", "stock")
    assert ran[0] == "shared/0001_pipeline"
    assert "stock/0001_initial" in ran
    assert await migrate(bare.dsn("stock"), "stock", "stock") == []
    assert {"inbox", "outbox", "lease", "product"} <= await tables(bare)


async def test_instances_that_start_at_once_run_each_migration_once(bare: Database) -> None:
    runs = await asyncio.gather(*(migrate(bare.dsn("stock"), "stock", "stock") for _ in range(6)))
    assert sorted(map(bool, runs)) == [False] * 5 + [True]


async def test_what_is_pending_is_named(bare: Database, made_up: Callable[..., None]) -> None:
    made_up(FIRST, SECOND)
    async with bare.connection("stock") as connection:
        assert await pending(connection, "made_up") == ["made_up: no migration ran yet"]
    made_up(FIRST)
    await migrate(bare.dsn("stock"), "stock", "made_up")
    made_up(FIRST, SECOND)
    async with bare.connection("stock") as connection:
        assert await pending(connection, "made_up") == ["made_up/0002_second"]


async def test_a_migration_that_was_changed_after_it_ran_is_refused(
    bare: Database, made_up: Callable[..., None]
) -> None:
    made_up(FIRST)
    await migrate(bare.dsn("stock"), "stock", "made_up")
    made_up(replace(FIRST, sql=FIRST.sql + " -- a comment"), SECOND)
    with pytest.raises(MigrationError, match=r"0001_first was changed after it\s+ran; restore"):
        await migrate(bare.dsn("stock"), "stock", "made_up")
    async with bare.connection("stock") as connection:
        with pytest.raises(MigrationError, match="was changed"):
            await pending(connection, "made_up")


async def test_a_migration_that_fails_leaves_nothing(
    bare: Database, made_up: Callable[..., None]
) -> None:
    made_up(FIRST, BROKEN)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(bare.dsn("stock"), "stock", "made_up")
    assert await tables(bare) == set()
    made_up(FIRST, SECOND)
    await migrate(bare.dsn("stock"), "stock", "made_up")
    assert "lamp" in await tables(bare)


async def test_f53_code_of_the_version_before_runs_on_a_newer_schema(
    bare: Database, made_up: Callable[..., None]
) -> None:
    made_up(FIRST, SECOND)
    await migrate(bare.dsn("stock"), "stock", "made_up")
    made_up(FIRST)
    async with bare.connection("stock") as connection:
        assert await pending(connection, "made_up") == []
    assert await migrate(bare.dsn("stock"), "stock", "made_up") == []


async def test_bootstrap_may_run_again(bare: Database) -> None:
    await migrate(bare.dsn("stock"), "stock", "stock")
    async with bare.connection() as admin:
        before = await admin.fetchval("SELECT count(*) FROM pg_roles")
    await migrations.bootstrap(bare.admin_dsn, ["stock"], bare.server.password)
    async with bare.connection() as admin:
        assert await admin.fetchval("SELECT count(*) FROM pg_roles") == before
    assert await migrate(bare.dsn("stock"), "stock", "stock") == []


@pytest.mark.parametrize("schema", ['x"; DROP SCHEMA stock', "Stock", "", "a" * 40, "1stock"])
async def test_f68_a_schema_is_an_identifier(bare: Database, schema: str) -> None:
    with pytest.raises(MigrationError, match="is no name for a schema"):
        await migrations.bootstrap(bare.admin_dsn, [schema], "")
    with pytest.raises(MigrationError, match="is no name for a schema"):
        await migrate(bare.dsn("stock"), schema, "stock")
