"""The pool when Postgres is slow, busy, restarted, or its user goes away in mid-transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.database import connect_pool, faults
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Pool
    from shared.testing.databases import Database
    from shared.testing.proxy import Proxy

INSERT = "INSERT INTO lease VALUES ($1, 'me', 1, now())"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock-0", max_connections=2) as pool:
        yield pool


async def leases(database: Database) -> set[str]:
    async with database.connection("stock") as connection:
        return {row["name"] for row in await connection.fetch("SELECT name FROM lease")}


async def test_a_pool_opens_nothing_before_it_is_used(database: Database) -> None:
    pool = connect_pool("postgresql://nobody@127.0.0.1:1/nowhere", name="x", max_connections=2)
    await pool  # the server is away, and the start goes on
    with pytest.raises(OSError, match="Connect"):
        await pool.acquire(timeout=2)
    pool.terminate()


async def test_f49_an_exhausted_pool_gives_up_in_time(pool: Pool) -> None:
    async with pool.acquire(), pool.acquire():
        with pytest.raises(TimeoutError) as raised:
            await pool.acquire(timeout=0.05)
    assert not faults.is_message_fault(raised.value)
    assert faults.cause(raised.value) == "timeout"
    assert await pool.fetchval("SELECT 1") == 1


async def test_f49_a_pool_bounds_the_wait_of_who_names_no_time(database: Database) -> None:
    async with connect_pool(
        database.dsn("stock"), name="stock-0", max_connections=1, acquire_timeout_s=0.05
    ) as pool:
        async with pool.acquire():
            with pytest.raises(TimeoutError):
                await pool.acquire()
            with pytest.raises(TimeoutError):
                await pool.fetchval("SELECT 1")
        assert await pool.fetchval("SELECT 1") == 1


async def test_f49_a_slow_statement_is_cut_off_and_the_connection_is_used_again(
    pool: Pool,
) -> None:
    async def sleep() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = '20ms'")
            await connection.fetchval("SELECT pg_sleep(10)")

    with pytest.raises(asyncpg.QueryCanceledError) as raised:
        await sleep()
    assert faults.cause(raised.value) == "timeout"
    assert await pool.fetchval("SHOW statement_timeout") == "30s"


async def test_f50_a_task_cancelled_inside_a_transaction_leaves_no_trace(
    pool: Pool, database: Database
) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(INSERT, "cancelled")
            inside.set()
            await connection.fetchval("SELECT pg_sleep(60)")

    for _ in range(3):  # more often than the pool has connections
        task = asyncio.create_task(work())
        await inside.wait()
        inside.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with pool.acquire() as first, pool.acquire() as second:
        for connection in (first, second):
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT 1") == 1
    assert await leases(database) == set()


async def test_f50_a_transaction_that_was_left_open_is_rolled_back(
    pool: Pool, database: Database
) -> None:
    for _ in range(3):
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute(INSERT, "left open")
    async with pool.acquire() as first, pool.acquire() as second:
        assert not first.is_in_transaction()
        assert not second.is_in_transaction()
    assert await leases(database) == set()


async def test_f39_who_stands_still_inside_a_transaction_loses_his_rows(
    pool: Pool, database: Database
) -> None:
    """What idle_in_transaction_session_timeout (2 s in production) does to a frozen holder."""
    async with database.connection("stock") as admin, database.connection("stock") as frozen:
        await admin.execute(INSERT, "hot")
        await frozen.execute("SET idle_in_transaction_session_timeout = '50ms'")
        transaction = frozen.transaction()
        await transaction.start()
        await frozen.execute("UPDATE lease SET holder = 'late' WHERE name = 'hot'")
        # the next in line gets the row as soon as the server has had enough
        await pool.execute("UPDATE lease SET holder = 'next' WHERE name = 'hot'")
        with pytest.raises(
            (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        ) as raised:
            await transaction.commit()
        assert not faults.is_message_fault(raised.value)
        assert await admin.fetchval("SELECT holder FROM lease WHERE name = 'hot'") == "next"
    assert await pool.fetchval("SELECT count(*) FROM lease") == 1


async def test_f46_connections_that_a_restart_cut_are_replaced(
    pool: Pool, database: Database
) -> None:
    async with pool.acquire() as first, pool.acquire() as second:
        pids = [connection.get_server_pid() for connection in (first, second)]
    async with database.connection() as admin:
        await admin.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids)

    cut_off: list[Exception] = []

    async def answers() -> int:
        async with pool.acquire(timeout=2) as connection:
            try:
                return int(await connection.fetchval("SELECT 1"))
            except Exception as error:
                cut_off.append(error)
                await pool.expire_connections()
                raise

    assert await eventually(answers, within_s=5) == 1
    # asyncpg may have noticed by itself, and then no error was seen
    assert [error for error in cut_off if not faults.leaves_pool_stale(error)] == []
    assert not any(faults.is_message_fault(error) for error in cut_off)


async def test_f46_a_connection_that_is_cut_in_mid_statement_is_the_infrastructures_fault(
    database: Database, postgres_proxy: Proxy
) -> None:
    dsn = postgres_proxy.through(database.dsn("stock"))
    async with connect_pool(dsn, name="stock-0", max_connections=2) as pool:
        asleep = asyncio.create_task(pool.fetchval("SELECT pg_sleep(60)"))
        await eventually(lambda: postgres_proxy.open_connections == 1)
        async with database.connection() as admin:
            await eventually(
                lambda: admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE state = 'active' AND datname = $1 AND query LIKE '%pg_sleep%'"
                    " AND pid <> pg_backend_pid()",
                    database.name,
                )
            )
            postgres_proxy.cut()
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)) as raised:
                await asleep
        assert not faults.is_message_fault(raised.value)
        assert faults.leaves_pool_stale(raised.value)
        assert await pool.fetchval("SELECT 1") == 1
