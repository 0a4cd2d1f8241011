"""Looks at the stack while it is under load: processors, memory, lag."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError

from bench.load.record import Sample
from bench.usage import usage_between
from shared.contracts.topics import GROUPS
from shared.kafka.reading import open_groups
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bench.usage import Meter, Reading
    from shared.kafka.connection import KafkaConnection
    from shared.kafka.reading import GroupReader

MEMORY_EVERY: Final = 5
"""Samples from one look at the memory to the next: Postgres's shared pages are dear to tell."""
TOLD_EVERY_S: Final = 15.0


class Watch:
    """What was seen, sample by sample."""

    def __init__(self, meter: Meter, groups: GroupReader, tell: Callable[[str], None]) -> None:
        self._meter = meter
        self._groups = groups
        self._tell = tell
        self._lag: dict[str, int] = {}
        """As the broker told them since the last sample."""
        self._before = meter.read()
        self._began = self._told = self._before.at
        self._seen: list[tuple[float, Sample]] = []
        self.memory_bytes: dict[str, int] = {}
        """The most that each part held."""

    def samples(self, since: float) -> list[Sample]:
        """All samples, their times counted from `since` (seconds since the epoch)."""
        return [one.model_copy(update={"at_s": round(at - since, 2)}) for at, one in self._seen]

    async def look(self, period_s: float) -> None:
        """Take samples until this is cancelled."""
        due = time.monotonic()
        while True:
            due = max(due + period_s, time.monotonic())  # what was missed is not made up for
            await asyncio.sleep(due - time.monotonic())
            self.sample()

    async def ask(self, period_s: float) -> None:
        """Ask for the lags until this is cancelled: apart, since a busy broker may keep silent."""
        while True:
            self._lag = await self._lags()
            await asyncio.sleep(period_s)

    def sample(self) -> None:
        """Look once."""
        now = self._meter.read()
        if len(self._seen) % MEMORY_EVERY == 0:
            self._remember(self._meter.memory())
        sample = Sample(at_s=0.0, cores=cores_between(self._before, now), lag=self._lag)
        self._before, self._lag = now, {}
        self._seen.append((now.at, sample))
        if now.at - self._told >= TOLD_EVERY_S:
            self._told = now.at
            self._tell(_words(now.at - self._began, sample))

    async def _lags(self) -> dict[str, int]:
        try:
            return await self._groups.lags()
        except (KafkaError, TopicError, OSError, TimeoutError):
            return {}  # a broker that is too busy to answer: the sample says nothing of it

    def _remember(self, held: dict[str, int]) -> None:
        for name, size in held.items():
            self.memory_bytes[name] = max(self.memory_bytes.get(name, 0), size)


def cores_between(before: Reading, now: Reading) -> dict[str, float]:
    """Processors in use between two readings, by part, `others` and `stolen`."""
    used = usage_between([before, now], before.at, now.at)
    seconds = {
        **used.cpu_s,
        "others": max(used.others_s, 0.0),
        "stolen": used.stolen_s,
    }
    return {
        name: round(one / max(used.window_s, 1e-9), 3)
        for name, one in seconds.items()
    }  # fmt: skip


@asynccontextmanager
async def watching(
    connection: KafkaConnection, meter: Meter, period_s: float, tell: Callable[[str], None]
) -> AsyncIterator[Watch]:
    """Watches while the block runs, and once at its end. Raises the broker's errors where it can't
    begin."""
    async with open_groups(connection, GROUPS) as groups:
        watch = Watch(meter, groups, tell)
        tasks = [asyncio.create_task(one(period_s)) for one in (watch.look, watch.ask)]
        try:
            yield watch
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        watch.sample()


def _words(at_s: float, sample: Sample) -> str:
    busiest = sorted(sample.cores.items(), key=lambda one: -one[1])[:3]
    cores = ", ".join(f"{name} {used:.1f}" for name, used in busiest)
    return f"{at_s:.0f} s: cores {cores}; {sum(sample.lag.values()):,} messages wait"
