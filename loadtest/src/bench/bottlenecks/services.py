"""Services of the stack start anew, with other settings or in other numbers; the rest stays up."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

from bench.bottlenecks.pairs import DOUBLED
from bench.phases import at_rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.phases import Ground
    from local_stack import Stack

SECONDS: Final = tuple(f"{name}-1" for name in DOUBLED)
"""Second instances, which stay down unless a side wants them."""
PROBES: Final = 200
"""Orders that are sure to lie on every partition, for all practical purposes."""


async def start_anew(stack: Stack, services: Sequence[str], settings: Mapping[str, str]) -> None:
    """The first instance of each ends as it does for a deploy, and starts with these settings.

    Raises StackError where one does not come back.
    """
    parts = [f"{name}-0" for name in services]
    await asyncio.gather(*(asyncio.to_thread(_end, stack, part, settings) for part in parts))
    await asyncio.gather(*(asyncio.to_thread(stack.wait_healthy, part) for part in parts))


async def share(ground: Ground, instances: int, run: str) -> None:
    """Have so many instances of each service in DOUBLED, where there were as many others, and wait
    until their groups know.

    Who ended keeps its partitions until its session is over. What tells are orders on all
    partitions, every one confirmed. Raises StackError, and BenchError where they are not.
    """
    for part in SECONDS:
        if instances == 1:
            await asyncio.to_thread(ground.stack.hold, part, signal.SIGTERM)
        else:
            await asyncio.to_thread(ground.stack.release, part)
    await at_rate(ground, PROBES, 1, run)


def _end(stack: Stack, part: str, settings: Mapping[str, str]) -> None:
    stack.override(part, settings)
    stack.kill(part, signal.SIGTERM)
