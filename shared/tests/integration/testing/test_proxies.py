"""The proxy before the servers that it is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
import redis.exceptions
from redis.asyncio import Redis

if TYPE_CHECKING:
    from shared.testing.databases import Database
    from shared.testing.proxy import Proxy
    from shared.testing.valkey import Valkey


async def test_a_commit_whose_reply_is_lost_has_happened(
    database: Database, postgres_proxy: Proxy
) -> None:
    connection = await asyncpg.connect(postgres_proxy.through(database.dsn("stock")))
    postgres_proxy.lose_reply_to(b"COMMIT")
    with pytest.raises((asyncpg.PostgresError, OSError)):
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO lease (name, holder, token, until) VALUES ('n', 'h', 1, now())"
            )
    assert postgres_proxy.stats.replies_lost == 1
    async with database.connection("stock") as other:
        assert await other.fetchval("SELECT count(*) FROM lease") == 1


async def test_postgres_that_is_down_refuses(database: Database, postgres_proxy: Proxy) -> None:
    dsn = postgres_proxy.through(database.dsn("stock"))
    await postgres_proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(dsn)
    await postgres_proxy.heal()
    connection = await asyncpg.connect(dsn)
    await connection.close()


async def test_a_script_whose_reply_is_lost_has_run(valkey: Valkey, valkey_proxy: Proxy) -> None:
    script = await valkey.client.script_load("return redis.call('INCR', KEYS[1])")
    async with Redis.from_url(valkey_proxy.through(valkey.url), retry=None) as client:
        await client.ping()
        valkey_proxy.lose_reply_to(b"EVALSHA")
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.evalsha(script, 1, "counter")
        assert await client.evalsha(script, 1, "counter") == 2
