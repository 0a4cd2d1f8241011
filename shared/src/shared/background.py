"""Background work of a service: one pass after the other, for as long as the process lives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import backoff
from shared.pipeline.sweeper import Swept
from shared.telemetry import metrics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """Background work: `run_once` every `interval_s`, at once again while it says there is more."""

    name: str
    run_once: Callable[[], Awaitable[Any]]
    interval_s: float


async def repeat(loop: Loop, failed: Callable[[Exception], Awaitable[None]]) -> None:
    """Run `loop` until cancelled. A pass that fails is counted, logged, told to `failed`, and tried
    again."""
    attempt = 0
    while True:
        try:
            done = await loop.run_once()
        except Exception as error:  # noqa: BLE001 - counted, logged, and tried again
            attempt += 1
            metrics.LOOP_FAILURES.labels(loop.name).inc()
            _log.warning(
                "background_pass_failed",
                loop=loop.name,
                error=type(error).__name__,
                detail=str(error)[:200],
                attempt=attempt,
            )
            await failed(error)
            await asyncio.sleep(max(loop.interval_s, backoff.delay_s(attempt)))
        else:
            attempt = 0
            if not (isinstance(done, Swept) and done.more):
                await asyncio.sleep(loop.interval_s)
