"""What Redis is told after a commit: later, in order, and only while it is there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from shared.redis.connection import RedisAwayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from prometheus_client import Counter

    from shared.redis.reach import Reach

_T = TypeVar("_T")

KEPT: Final = 10_000
"""What waits at most. A reconciler finds what is dropped."""


class Returns(Generic[_T]):
    """Things to give back. What Redis doesn't take is dropped and counted."""

    def __init__(
        self, give: Callable[[_T], Awaitable[None]], reach: Reach, dropped: Counter
    ) -> None:
        """`give` gives one back, and raises RedisAwayError where it can't."""
        self._give = give
        self._reach = reach
        self._dropped = dropped
        self._waiting: deque[_T] = deque()
        self._wake = asyncio.Event()

    def add(self, things: Iterable[_T]) -> None:
        """Give these back soon."""
        self._waiting.extend(things)
        while len(self._waiting) > KEPT:
            self._waiting.popleft()
            self._dropped.inc()
        if self._waiting:
            self._wake.set()

    async def run_once(self) -> None:
        """Wait for something to give back, and give back all that there is."""
        await self._wake.wait()
        self._wake.clear()
        await self.give_back()

    async def give_back(self) -> None:
        """Give back all that there is now."""
        try:
            while self._waiting:
                await self._give(self._waiting.popleft())
        except RedisAwayError as error:
            self._reach.lost(error)
            self._dropped.inc(len(self._waiting) + 1)
            self._waiting.clear()

    async def close(self) -> None:
        """Give back what still waits, unless Redis is away."""
        if not self._reach.is_away:
            await self.give_back()
