"""Values that Redis keeps for a while: losing them costs a look into Postgres, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.redis.connection import RETRIES, answer, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Cache:
    """Keys under one prefix, with one lifetime. All raise `RedisAwayError`, within a second."""

    def __init__(self, url: str, prefix: str, *, keep_s: int, retries: int = RETRIES) -> None:
        """Connects when it is first used, and again after each loss; `retries` as in `connect`."""
        self._redis = connect(url, retries=retries)
        self._prefix = prefix
        self._keep_s = keep_s

    async def read(self, keys: Sequence[str]) -> dict[str, str]:
        """The values of those keys that are there."""
        if not keys:
            return {}
        values = await answer(self._redis.mget([self._prefix + key for key in keys]))
        found = zip(keys, values, strict=True)
        return {key: str(value) for key, value in found if value is not None}

    async def write(self, values: Mapping[str, str]) -> None:
        """Keep these values, from now on for the lifetime. Some of them may be kept and some not
        where it raises."""
        pipeline = self._redis.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(self._prefix + key, value, ex=self._keep_s)
        await answer(pipeline.execute())

    async def probe(self) -> None:
        """Whether Redis answers, and takes writes."""
        await self.write({"probe": ""})

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()
