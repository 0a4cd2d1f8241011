"""Questions to a Redis that drops connections, and to one that is gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from bench.latencies import counted
from bench.settings.record import RedisRepeat
from shared.redis import Cache, RedisAwayError
from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS: Final = 8
"""Who ask at the same time."""
DROPPED_EVERY_S: Final = 0.03
"""All connections but the one that says so: some thirty times a second nobody gets an answer."""
ASKED_OF_NOBODY: Final = 5


async def measure_losses(redis_url: str, retries: int, questions: int) -> RedisRepeat:
    """So many questions while connections are dropped, and some where nobody listens."""
    took_ms: list[float] = []
    lost = 0
    cache = Cache(redis_url, "bench:", keep_s=60, retries=retries)

    async def ask(turns: Iterator[int]) -> None:
        nonlocal lost
        for _ in turns:
            began_s = time.perf_counter()
            try:
                await cache.read(["value"])
            except RedisAwayError:
                lost += 1
            took_ms.append((time.perf_counter() - began_s) * 1000)

    over = asyncio.Event()
    dropping = asyncio.create_task(_drop(redis_url, over))
    turns = iter(range(questions))
    try:
        await asyncio.gather(*(ask(turns) for _ in range(TASKS)))
    finally:
        over.set()
        await dropping
        await cache.close()
    return RedisRepeat(
        retries=retries,
        asked=questions,
        lost=lost,
        latency_ms=counted(took_ms),
        gone_ms=await _ask_nobody(retries),
    )


async def _drop(redis_url: str, over: asyncio.Event) -> None:
    client: Redis = Redis.from_url(redis_url)
    try:
        while not over.is_set():
            await client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(DROPPED_EVERY_S)
    finally:
        await client.aclose()


async def _ask_nobody(retries: int) -> list[float]:
    found = []
    with ReservedPort() as port:
        cache = Cache(f"redis://127.0.0.1:{port.port}/0", "bench:", keep_s=60, retries=retries)
        for _ in range(ASKED_OF_NOBODY):
            began_s = time.perf_counter()
            try:
                await cache.read(["value"])
            except RedisAwayError:
                found.append((time.perf_counter() - began_s) * 1000)
        await cache.close()
    return found
