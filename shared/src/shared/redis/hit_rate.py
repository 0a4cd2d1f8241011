"""How many of the keys that are looked up Redis finds, by its own count."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared.redis.connection import RedisAwayError
from shared.telemetry.metrics import CACHE_HIT_RATE

if TYPE_CHECKING:
    from shared.redis.batching import Batched


class HitRate:
    """Shows hits over hits and misses, of everybody who asks the server."""

    def __init__(self, redis: Batched) -> None:
        self._redis = redis

    async def run_once(self) -> float:
        """Look once; the rate, NaN where nobody asked yet or Redis is away."""
        try:
            stats = await self._redis.ask("INFO", "stats")
        except RedisAwayError:
            rate = math.nan
        else:
            hits, misses = stats["keyspace_hits"], stats["keyspace_misses"]
            rate = hits / (hits + misses) if hits + misses else math.nan
        CACHE_HIT_RATE.set(rate)
        return rate
