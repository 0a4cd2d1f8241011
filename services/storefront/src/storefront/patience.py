"""How long requests wait for their outcome."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOK_S: Final = 0.5
"""What one look at how things are gets, however late it is."""


class Patience:
    """Ends for each request after so many seconds in all, and for all at once when the process
    stops: what they asked for goes on without them."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._limits: set[asyncio.Timeout] = set()
        self._is_over = False

    def begin(self) -> float:
        """Until when who asks now waits: a time of the event loop."""
        return asyncio.get_running_loop().time() + self._within_s

    @asynccontextmanager
    async def lasting(self, until: float, *, at_least_s: float = 0.0) -> AsyncIterator[None]:
        """Wait inside. Raises TimeoutError once the patience is over, and `at_least_s` have
        passed."""
        least = asyncio.get_running_loop().time() + at_least_s
        async with asyncio.timeout_at(least if self._is_over else max(until, least)) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def end(self) -> None:
        """Nobody waits any longer."""
        self._is_over = True
        now = asyncio.get_running_loop().time()
        for limit in tuple(self._limits):
            if not limit.expired():
                limit.reschedule(now)
