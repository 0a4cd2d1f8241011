"""What this process keeps of what it loaded: ready to be shown, each loaded by one alone.

    asked for ─▶ kept, and current ────────────────────────────▶ shown
                    │ no
                    ├─▶ a load runs that began in time, or one waits to begin ─▶ waited for
                    └─▶ loaded, and kept ─▶ failed: the old one, as long as it may be shown

Whether something is current is told by when its load **began**: what was put since then may not be
in it. So a load that began too early needs nobody to stop it: its result is shown to those who
asked before, and counts as outdated from then on. Who asks after that waits for the next, which
begins when it has ended: of a key one load runs at once, and one waits at most.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from storefront.latest import Latest
from storefront.metrics import CACHE_HITS, CACHE_MISSES, CACHE_STALE
from storefront.problems import ProblemError, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

HOT_ASKS: Final = 60
"""What is asked for so often within HOT_CACHE_S is hot, and lives no longer than that."""
STALE_AT_MOST_S: Final = 3_600.0
"""While stock is away, what was loaded so long ago may still be shown."""
REST_S: Final = 1.0
"""Stock is left alone for so long after it did not answer."""

Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


class Loaded(NamedTuple, Generic[Value]):
    """What a load found."""

    value: Value
    began_s: float
    """By the clock of the process: nothing in it is older."""
    keep_s: float


class Shown(NamedTuple, Generic[Value]):
    """What is kept, and how it stands."""

    value: Value
    age_s: float
    over_s: float
    """For how long it is past its time, all of its age where it is outdated; 0 where it is as good
    as new."""


class _Kept(Generic[Value]):
    __slots__ = ("asks", "loaded", "look_s")

    def __init__(self, loaded: Loaded[Value]) -> None:
        self.loaded = loaded
        self.asks = 0
        """Since it was last looked at."""
        self.look_s = 0.0
        """When its time is over, or whether it is hot is looked at."""


class _Load(NamedTuple, Generic[Value]):
    began_s: float
    task: asyncio.Task[Loaded[Value]]


class Shelf(Generic[Key, Value]):
    """Keeps a bounded number of values by their keys; those asked for last."""

    def __init__(
        self,
        what: str,
        load: Callable[[Key, float], Awaitable[Loaded[Value]]],
        current_since_s: Callable[[Key], float],
        *,
        at_most: int,
        hot_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load(key, age_s)` finds a value that is no older than that; what began loading before
        `current_since_s(key)` is outdated. `what` is a label of metrics."""
        self._load = load
        self._current_since_s = current_since_s
        self._hot_s = hot_s
        self._clock = clock
        self._kept: Latest[Key, _Kept[Value]] = Latest(at_most)
        self._running: dict[Key, _Load[Value]] = {}
        self._next: dict[Key, asyncio.Task[Loaded[Value]]] = {}
        """Loads that have not begun."""
        self._rests_until_s = 0.0
        self._hits = CACHE_HITS.labels(what, "process")
        self._misses = CACHE_MISSES.labels(what, "process")
        self._stale = CACHE_STALE.labels(what)

    async def get(self, key: Key, keep_s: float) -> Shown[Value]:
        """The value of `key`, no older than `keep_s` unless stock is away. Raises ProblemError."""
        now_s = self._clock()
        kept = self._kept.get(key)
        hot = False
        if kept is not None and kept.loaded.began_s >= self._current_since_s(key):
            if now_s >= kept.look_s:
                hot = self._look(kept, now_s)
            if now_s < kept.look_s:
                kept.asks += 1
                self._kept.move_to_end(key)
                self._hits.inc()
                return Shown(kept.loaded.value, now_s - kept.loaded.began_s, 0.0)
        self._misses.inc()
        try:
            loaded = await self._loaded(key, self._hot_s if hot else keep_s)
        except ProblemError:
            stale = self._shown_stale(key)
            if stale is None:
                raise
            return stale
        return Shown(loaded.value, self._clock() - loaded.began_s, 0.0)

    async def _loaded(self, key: Key, age_s: float) -> Loaded[Value]:
        running = self._running.get(key)
        # before anything is heard nothing is known to be outdated
        if running is None or running.began_s < self._current_since_s(key) < math.inf:
            task = self._next.get(key) or self._plan_load(key, age_s, running)
        else:
            task = running.task
        # who asked first may go away; the others still wait
        return await asyncio.shield(task)

    def _plan_load(
        self, key: Key, age_s: float, running: _Load[Value] | None
    ) -> asyncio.Task[Loaded[Value]]:
        self._refuse_in_rest()
        task = asyncio.create_task(self._run(key, age_s, running and running.task))
        task.add_done_callback(_heard)
        self._next[key] = task
        return task

    async def _run(
        self, key: Key, age_s: float, before: asyncio.Task[Loaded[Value]] | None
    ) -> Loaded[Value]:
        if before is not None:
            await asyncio.wait((before,))
        task = self._next.pop(key)
        self._refuse_in_rest()
        self._running[key] = _Load(self._clock(), task)
        try:
            loaded = await self._load(key, age_s)
        except ProblemError:
            self._rests_until_s = self._clock() + REST_S
            raise
        finally:
            del self._running[key]
        self._keep(key, loaded)
        return loaded

    def _refuse_in_rest(self) -> None:
        if self._clock() < self._rests_until_s:
            raise unavailable("stock does not answer; try again", reason="stock_away")

    def _keep(self, key: Key, loaded: Loaded[Value]) -> None:
        kept = self._kept[key] = _Kept(loaded)
        self._plan(kept, self._clock())

    def _look(self, kept: _Kept[Value], now_s: float) -> bool:
        """Whether it was asked for so often that it must be loaded anew; else it may stay, as long
        as its time isn't over."""
        if kept.asks >= HOT_ASKS:
            return True
        self._plan(kept, now_s)
        return False

    def _plan(self, kept: _Kept[Value], now_s: float) -> None:
        ends_s = kept.loaded.began_s + kept.loaded.keep_s
        hot_s = kept.loaded.began_s + self._hot_s
        kept.asks = 0
        kept.look_s = min(ends_s, hot_s if hot_s > now_s else now_s + self._hot_s)

    def _shown_stale(self, key: Key) -> Shown[Value] | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        value, began_s, keep_s = kept.loaded
        age_s = self._clock() - began_s
        if age_s > STALE_AT_MOST_S:
            return None
        outdated = began_s < self._current_since_s(key)
        self._stale.inc()
        return Shown(value, age_s, age_s if outdated else max(age_s - keep_s, 0.0))


def _heard(task: asyncio.Task[Loaded[Value]]) -> None:
    """Nobody may wait any more for what failed."""
    if not task.cancelled():
        task.exception()
