"""k6 at work on one storefront, and the stack watched meanwhile."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.load.k6 import running
from bench.load.series import read_complaints, read_moments, read_summary
from bench.load.watch import watching
from bench.usage import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.load.record import Latency, Moment, Sample, Threshold
    from bench.usage import Pids
    from shared.kafka.connection import KafkaConnection

K6: Final = "k6"
"""Its name among the parts that are watched."""


class Driven(NamedTuple):
    """One run of a script: what k6 counted, and what was seen of the stack. As in `Loaded`."""

    totals: dict[str, float]
    latencies: list[Latency]
    thresholds: list[Threshold]
    complaints: dict[str, int]
    moments: list[Moment]
    samples: list[Sample]
    memory_bytes: dict[str, int]


@dataclass(frozen=True)
class Driver:
    """Runs scripts against one storefront."""

    k6: Path
    url: str
    connection: KafkaConnection
    pids: Pids
    tell: Callable[[str], None]

    async def drive(
        self, script: str, settings: Mapping[str, str], period_s: float, watch_s: float
    ) -> Driven:
        """Run a script of `loadtest/k6` to its end; k6 counts by `period_s`, the stack is looked at
        each `watch_s`. Raises BenchError where k6 fails, and the broker's errors."""
        with tempfile.TemporaryDirectory(prefix="k6-") as name:
            told = {"BASE_URL": self.url, **settings}
            async with running(self.k6, script, told, Path(name), period_s) as process:
                meter = Meter(lambda: {**self.pids(), K6: process.pid})
                async with watching(self.connection, meter, watch_s, self.tell) as watch:
                    outcome = await process.outcome()
        began, moments = read_moments(outcome.record)
        totals, latencies, thresholds = read_summary(outcome.summary)
        return Driven(
            totals=totals,
            latencies=latencies,
            thresholds=thresholds,
            complaints=read_complaints(outcome.log),
            moments=moments,
            samples=watch.samples(began),
            memory_bytes=watch.memory_bytes,
        )
