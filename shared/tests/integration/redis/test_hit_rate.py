"""How many keys Redis finds, by its own count."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared.redis import Batched, HitRate
from shared.telemetry.metrics import CACHE_HIT_RATE
from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from shared.testing.valkey import Valkey


async def test_the_rate_is_the_servers_hits_of_all_that_was_looked_up(valkey: Valkey) -> None:
    redis = Batched(valkey.url, "storefront")
    await valkey.client.set("there", "1", ex=60)
    for key in ("there", "there", "gone"):
        await valkey.client.get(key)
    before = await valkey.client.info("stats")
    rate = await HitRate(redis).run_once()
    after = await valkey.client.info("stats")
    # the server is everybody's: others may have looked something up meanwhile
    low = before["keyspace_hits"] / (before["keyspace_hits"] + after["keyspace_misses"])
    high = after["keyspace_hits"] / (after["keyspace_hits"] + before["keyspace_misses"])
    assert 0 < low <= rate <= high < 1
    assert CACHE_HIT_RATE._value.get() == rate
    await redis.close()


async def test_f60_without_redis_there_is_no_rate() -> None:
    with ReservedPort() as nobody:
        redis = Batched(f"redis://127.0.0.1:{nobody.port}/0", "storefront")
        assert math.isnan(await HitRate(redis).run_once())
        await redis.close()
