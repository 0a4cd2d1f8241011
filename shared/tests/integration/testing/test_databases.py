"""Each test has a migrated database of its own, confined by the roles of production."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    from shared.testing.databases import Database, Template


async def test_every_schema_is_migrated_and_empty(database: Database) -> None:
    async with database.connection("stock") as connection:
        assert await connection.fetchval("SELECT current_schema()") == "stock"
        assert await connection.fetchval("SELECT count(*) FROM schema_migration") > 0
        assert await connection.fetchval("SELECT count(*) FROM inbox") == 0


async def test_two_tests_do_not_see_each_other(template: Template) -> None:
    async with template.clone() as first, template.clone() as second:
        async with first.connection("stock") as connection:
            await connection.execute(
                "INSERT INTO lease (name, holder, token, until) VALUES ('n', 'h', 1, now())"
            )
        async with second.connection("stock") as connection:
            assert await connection.fetchval("SELECT count(*) FROM lease") == 0


async def test_a_database_is_gone_after_its_test(template: Template) -> None:
    async with template.clone() as database:
        left_open = await asyncpg.connect(database.dsn("stock"))
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await left_open.fetchval("SELECT 1")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(database.admin_dsn)


async def test_no_role_reads_the_schema_of_another(database: Database) -> None:
    async with database.connection("stock") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval("SELECT count(*) FROM payment.inbox")


async def test_the_operator_reads_all_and_writes_nothing(database: Database) -> None:
    async with database.connection("operator") as connection:
        assert await connection.fetchval("SELECT count(*) FROM stock.inbox") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM stock.inbox")


async def test_a_stranger_may_not_connect(database: Database) -> None:
    """A copy of a database comes without the rights on the database itself; they are set anew."""
    async with database.connection() as connection:
        found = await connection.fetchval(
            "SELECT has_database_privilege('pg_monitor', current_database(), 'CONNECT')"
        )
    assert not found


async def test_the_template_is_found_again(template: Template) -> None:
    again = await type(template).prepare(template.server)
    assert again.name == template.name
