"""Each test has an empty database number of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import Redis

from shared.testing.valkey import claimed_database

if TYPE_CHECKING:
    from local_stack import Environment
    from shared.testing.valkey import Valkey


async def test_two_tests_do_not_see_each_other(valkey: Valkey, environment: Environment) -> None:
    async with claimed_database(environment.redis_url) as other:
        assert other.url != valkey.url
        await valkey.client.set("stock:P001", 5)
        assert await other.client.get("stock:P001") is None
    assert await valkey.client.get("stock:P001") == "5"


async def test_a_number_is_flushed_and_given_again(environment: Environment) -> None:
    urls = set()
    for _ in range(20):
        async with claimed_database(environment.redis_url) as valkey:
            urls.add(valkey.url)
            assert await valkey.client.dbsize() == 0
            await valkey.client.set("left", "behind")
    assert len(urls) < 16


async def test_the_url_leads_to_the_same_database(valkey: Valkey) -> None:
    await valkey.client.set("stock:P001", 5)
    async with Redis.from_url(valkey.url) as client:
        assert await client.get("stock:P001") == b"5"
