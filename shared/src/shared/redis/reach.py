"""Whether Redis can be reached, as far as it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import Gauge

_log = get_logger(__name__)


class Reach:
    """Lost by whoever is not answered, and found again by a probe alone: nobody waits for a Redis
    that is away but the one who looks for it."""

    def __init__(self, what: str, gauge: Gauge, probe: Callable[[], Awaitable[None]]) -> None:
        """`what` Redis is asked for, as in `counters`; `gauge` is 1 while it is away."""
        self._what = what
        self._gauge = gauge
        self._probe = probe
        self._away = False

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer when it was asked last."""
        return self._away

    def lost(self, error: Exception) -> None:
        """Redis is away until `find` finds it."""
        if not self._away:
            _log.warning(f"{self._what}_away", detail=str(error)[:200])
        self._away = True
        self._gauge.set(1)

    async def find(self) -> None:
        """Look whether Redis is back. Raises RedisAwayError where it isn't."""
        await self._probe()
        if self._away:
            _log.warning(f"{self._what}_back")
        self._away = False
        self._gauge.set(0)
