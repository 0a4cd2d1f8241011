"""A distance between beginnings: under load each finds more to do, and what one costs is shared."""

from __future__ import annotations

import asyncio
from typing import Final

BEGINNINGS_AHEAD: Final = 4
"""After quiet, so many begin at once: an order alone, whose messages follow each other, waits for
no interval."""


class Pace:
    """Beginnings follow each other no faster than an interval in the long run."""

    def __init__(self, interval_s: float) -> None:
        """0: no distance is kept."""
        self._interval_s = interval_s
        self._due_s = 0.0
        """When the next would begin if all were an interval apart, by the loop's clock."""

    async def turn(self) -> None:
        """Return when it is time to look for something to do."""
        clock = asyncio.get_running_loop().time
        ahead_s = self._due_s - clock() - BEGINNINGS_AHEAD * self._interval_s
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)

    def begun(self) -> None:
        """Something was found, and is begun now."""
        now_s = asyncio.get_running_loop().time()
        self._due_s = max(self._due_s, now_s) + self._interval_s
