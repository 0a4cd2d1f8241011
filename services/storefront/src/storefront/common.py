"""What all storefronts keep together in Redis, each key loaded by one of them alone.

    there, and current ─▶ taken
         │ no
         ├─▶ the lock is ours ─▶ loaded from stock, written, the lock given back
         └─▶ somebody else loads ─▶ looked at again, until it is there
                                     └─▶ nobody loads any more, or it takes too long: loaded here

Losing Redis costs loads. A value ends when its load began, by the clock of Redis, and the time that
it is kept: however late it is written, the time that is left tells its age. A reader, by its own
clock, takes none whose load began before what it has heard of. A loader that writes late writes
what nobody takes. All storefronts keep values for the same time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from shared.redis import RedisAwayError
from shared.telemetry.logs import Seldom
from storefront.metrics import CACHE_HITS, CACHE_LOADS, CACHE_MISSES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.redis import Batched

_seldom = Seldom(__name__)

VALUE: Final = "storefront:catalogue:"
LOCK: Final = "storefront:loading:"
LOCK_MS: Final = 4_000
"""Longer than a load can take."""
WAIT_S: Final = 1.0
"""For what another storefront loads."""
LOOK_AGAIN_S: Final = 0.02
REST_S: Final = 1.0
"""Redis is left alone for so long after it did not answer."""
_FREE_LOCK: Final = (files("storefront") / "lua/free_lock.lua").read_text("utf-8")


Value = TypeVar("Value")


class Found(NamedTuple, Generic[Value]):
    """A value, and when its load began, or a little before, by the clock of the process."""

    value: Value
    began_s: float


class _Missed(NamedTuple):
    """There is no value, and it is ours to load."""

    at_ms: int | None
    """By the clock of Redis, before the load; None: Redis is away, or left out."""
    lock: str | None
    """Our token; None where others may load it too."""


class Common(Generic[Value]):
    """Keeps texts for a time, under keys that always have an end: caches may be evicted, counters
    never."""

    def __init__(
        self,
        redis: Batched,
        what: str,
        read: Callable[[str], Value],
        *,
        shares: Callable[[Value], bool],
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` is a label of metrics and a part of the keys. `read` makes a value of a text, or
        raises ValueError; only what it `shares` is kept, for `keep_s` from when its load began."""
        self._redis = redis
        self._what = what
        self._parsed = read
        self._shares = shares
        self._keep_ms = int(keep_s * 1000)
        self._clock = clock
        self._rests_until_s = 0.0
        self._hits = CACHE_HITS.labels(what, "redis")
        self._misses = CACHE_MISSES.labels(what, "redis")
        self._loads = CACHE_LOADS.labels(what)

    async def get(
        self,
        name: str,
        load: Callable[[], Awaitable[tuple[bytes, Value]]],
        usable_since_s: Callable[[], float],
        *,
        shared: bool = True,
    ) -> Found[Value]:
        """The value called `name`, whose load began at `usable_since_s()` or later; `load` gives
        its text too. One that isn't `shared` is loaded here, and Redis left out. Raises what `load`
        raises."""
        found: Found[Value] | _Missed = _Missed(None, None)
        if shared and self._clock() >= self._rests_until_s:
            try:
                found = await self._find(name, usable_since_s)
            except RedisAwayError as error:
                self._away(error)
        if isinstance(found, Found):
            self._hits.inc()
            return found
        self._misses.inc()
        self._loads.inc()
        began_s = self._clock()
        written = None
        try:
            text, value = await load()
            if self._shares(value) and began_s >= usable_since_s():
                written = text
        finally:
            await self._write(name, written, found)
        return Found(value, began_s)

    async def _find(self, name: str, usable_since_s: Callable[[], float]) -> Found[Value] | _Missed:
        """The value, or that it is ours to load. Raises RedisAwayError."""
        ends_s = self._clock() + WAIT_S
        found = await self._read(name, usable_since_s)
        while found is None:
            token = secrets.token_hex(4)
            # What its holder wrote is there once the lock is free: it is looked at together.
            now, got, found = await asyncio.gather(
                self._redis.ask("TIME"),
                self._redis.ask("SET", self._key(LOCK, name), token, "NX", "PX", LOCK_MS),
                self._read(name, usable_since_s),
            )
            if got and found is not None:
                await self._free(name, token)
            elif got or self._clock() >= ends_s:
                return _Missed(_ms_of(now), token if got else None)
            elif found is None:
                await asyncio.sleep(LOOK_AGAIN_S)
        return found

    async def _read(self, name: str, usable_since_s: Callable[[], float]) -> Found[Value] | None:
        key = self._key(VALUE, name)
        asked_s = self._clock()
        text: str | None
        left_ms: int
        text, left_ms = await asyncio.gather(
            self._redis.ask("GET", key), self._redis.ask("PTTL", key)
        )
        age_ms = self._keep_ms - left_ms
        began_s = asked_s - age_ms / 1000
        # one that has more time than it can have was written before its server's clock stepped
        if text is None or age_ms < 0 or began_s < usable_since_s():
            return None
        try:
            return Found(self._parsed(text), began_s)
        except ValueError:  # another version's
            return None

    async def _write(self, name: str, text: bytes | None, missed: _Missed) -> None:
        """Write a value, and give the lock back, as far as Redis is there."""
        if self._clock() < self._rests_until_s:
            return
        told = []
        if text is not None and missed.at_ms is not None:
            ends_ms = missed.at_ms + self._keep_ms
            told.append(self._redis.ask("SET", self._key(VALUE, name), text, "PXAT", ends_ms))
        if missed.lock is not None:
            told.append(self._free(name, missed.lock))
        for said in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(said, RedisAwayError):
                self._away(said)

    async def _free(self, name: str, token: str) -> None:
        await self._redis.ask("EVAL", _FREE_LOCK, 1, self._key(LOCK, name), token)

    def _key(self, prefix: str, name: str) -> str:
        return f"{prefix}{self._what}:{name}"

    def _away(self, error: RedisAwayError) -> None:
        self._rests_until_s = self._clock() + REST_S
        _seldom.warning("cache_away", detail=str(error)[:200])


def _ms_of(now: Sequence[Any]) -> int:
    """Milliseconds since 1970, of what `TIME` says."""
    seconds, micros = now
    return int(seconds) * 1000 + int(micros) // 1000
