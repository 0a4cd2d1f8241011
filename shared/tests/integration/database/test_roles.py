"""Invariant 10: no service's role can read another's schema; the operator reads all."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    from shared.testing.databases import Database


async def schemas(database: Database) -> list[str]:
    async with database.connection() as admin:
        rows = await admin.fetch(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'inbox'"
        )
    return sorted(row["schemaname"] for row in rows)


async def test_invariant_10_a_role_sees_its_own_schema_alone(database: Database) -> None:
    found = await schemas(database)
    assert len(found) >= 2, "one schema alone proves nothing"
    for role, other in permutations(found, 2):
        async with database.connection(role) as connection:
            assert await connection.fetchval("SELECT count(*) FROM inbox") == 0
            for statement in (
                f"SELECT * FROM {other}.inbox",
                f"INSERT INTO {other}.lease VALUES ('x', 'y', 1, now())",
                f"DELETE FROM {other}.outbox",
                f"CREATE TABLE {other}.mine ()",
                f"SET ROLE {other}",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_a_role_makes_nothing_outside_of_its_schema(database: Database) -> None:
    async with database.connection("stock") as connection:
        for statement in ("CREATE TABLE public.mine ()", "CREATE SCHEMA mine"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_the_operator_reads_all_and_writes_none(database: Database) -> None:
    async with database.connection("operator") as connection:
        for schema in await schemas(database):
            assert await connection.fetchval(f"SELECT count(*) FROM {schema}.inbox") == 0
            for statement in (
                f"DELETE FROM {schema}.inbox",
                f"UPDATE {schema}.outbox SET owner = 'me'",
                f"CREATE TABLE {schema}.mine ()",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_f48_f49_a_role_waits_for_nothing_without_end(database: Database) -> None:
    async with database.connection("stock") as connection:
        found = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
        }
    assert found == {
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "2s",
        "statement_timeout": "30s",
    }
