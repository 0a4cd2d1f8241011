"""Redis or Valkey beside Postgres: it admits, and may be lost at any moment."""

from shared.redis.batching import Batched
from shared.redis.cache import Cache
from shared.redis.connection import RETRIES, RedisAwayError
from shared.redis.hit_rate import HitRate
from shared.redis.reach import Reach
from shared.redis.returns import Returns
from shared.redis.scripts import Scripts
from shared.redis.standstill import STILL_PASSES, Standstill

__all__ = [
    "RETRIES",
    "STILL_PASSES",
    "Batched",
    "Cache",
    "HitRate",
    "Reach",
    "RedisAwayError",
    "Returns",
    "Scripts",
    "Standstill",
]
