"""What all storefronts keep together in Redis, each key loaded by one of them alone.

    there, and current ─▶ taken
         │ no
         ├─▶ the lock is ours ─▶ loaded from stock, written, the lock given back
         └─▶ somebody else loads ─▶ looked at again, until it is there
                                     └─▶ nobody loads any more, or it takes too long: loaded here

Losing Redis costs loads. A value says nothing of its age but by the time that is left to it: so a
reader tells, by its own clock, when its load began at the latest, and takes none that began before
what the reader has heard of. A loader that writes late writes what nobody takes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from shared.redis import RedisAwayError
from shared.telemetry.logs import Seldom
from storefront.metrics import CACHE_HITS, CACHE_LOADS, CACHE_MISSES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


Value = TypeVar("Value")


class Found(NamedTuple, Generic[Value]):
    """A value, and when its load began at the latest, by the clock of the process."""

    value: Value
    began_s: float


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
        raises ValueError; only what it `shares` is kept."""
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
        load: Callable[[], Awaitable[str]],
        usable_since_s: Callable[[], float],
    ) -> Found[Value]:
        """The value called `name`, whose load began at `usable_since_s()` or later. Raises what
        `load` raises, and ValueError where it gives no value."""
        found, holds_lock = None, False
        if self._clock() >= self._rests_until_s:
            try:
                found, holds_lock = await self._find(name, usable_since_s)
            except RedisAwayError as error:
                self._away(error)
        if found is not None:
            self._hits.inc()
            return found
        self._misses.inc()
        self._loads.inc()
        began_s = self._clock()
        written = None
        try:
            text = await load()
            value = self._parsed(text)
            if self._shares(value) and began_s >= usable_since_s():
                written = text
        finally:
            await self._write(name, written, began_s, holds_lock=holds_lock)
        return Found(value, began_s)

    async def _find(
        self, name: str, usable_since_s: Callable[[], float]
    ) -> tuple[Found[Value] | None, bool]:
        """The value, or whether it is ours to load alone. Raises RedisAwayError."""
        ends_s = self._clock() + WAIT_S
        found = await self._read(name, usable_since_s)
        while found is None:
            # What its holder wrote is there once the lock is free: it is looked at together.
            token = secrets.token_hex(4)
            got, found = await asyncio.gather(
                self._redis.ask("SET", self._key(LOCK, name), token, "NX", "PX", LOCK_MS),
                self._read(name, usable_since_s),
            )
            if got and found is not None:
                await self._redis.ask("DEL", self._key(LOCK, name))
            elif got or self._clock() >= ends_s:
                return None, bool(got)
            elif found is None:
                await asyncio.sleep(LOOK_AGAIN_S)
        return found, False

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

    async def _write(
        self, name: str, text: str | None, began_s: float, *, holds_lock: bool
    ) -> None:
        """Write a value, and give the lock back, as far as Redis is there."""
        if self._clock() < self._rests_until_s:
            return
        took_ms = int((self._clock() - began_s) * 1000) + 1
        told = []
        if text is not None and took_ms < self._keep_ms:
            left_ms = self._keep_ms - took_ms
            told.append(self._redis.ask("SET", self._key(VALUE, name), text, "PX", left_ms))
        if holds_lock and took_ms < LOCK_MS:  # else it may be another's by now
            told.append(self._redis.ask("DEL", self._key(LOCK, name)))
        for said in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(said, RedisAwayError):
                self._away(said)

    def _key(self, prefix: str, name: str) -> str:
        return f"{prefix}{self._what}:{name}"

    def _away(self, error: RedisAwayError) -> None:
        self._rests_until_s = self._clock() + REST_S
        _seldom.warning("cache_away", detail=str(error)[:200])
