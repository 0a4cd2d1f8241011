"""Loops that have something to do at a moment, or earlier when they are woken."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Alarm:
    """Wakes one loop."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        """`clock_ms` tells milliseconds since the epoch."""
        self._clock_ms = clock_ms
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """There may be something to do."""
        self._rung.set()

    async def wait(self, until_ms: int | None) -> None:
        """Returns once it has rung since it last returned, or once the moment has come."""
        pause_s = None if until_ms is None else max(0.0, (until_ms - self._clock_ms()) / 1_000)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), pause_s)
        self._rung.clear()
