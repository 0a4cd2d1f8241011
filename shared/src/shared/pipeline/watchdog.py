"""Is the consumer getting on? Lag as a metric, and readiness that says where it is stuck.

A consumer can hang without an error. What tells is: assigned, messages waiting, position unmoved.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import TopicPartition

    from shared.pipeline.consumer import GroupConsumer

PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands, and since when."""

    offset: int
    since_s: float


def stalled(
    seen: Mapping[TopicPartition, Position],
    ends: Mapping[TopicPartition, int],
    now_s: float,
    after_s: float,
) -> list[str]:
    """The partitions that have messages waiting and haven't moved for `after_s` seconds."""
    return sorted(
        f"{place.topic}/{place.partition}"
        for place, position in seen.items()
        if ends.get(place, 0) > position.offset and now_s - position.since_s >= after_s
    )


class Watchdog:
    """Probes one consumer group."""

    def __init__(self, consumer: GroupConsumer, *, stalled_after_s: float) -> None:
        """`stalled_after_s` is how long a partition with lag may stand still."""
        self._group = consumer
        self._stalled_after_s = stalled_after_s
        self._seen: dict[TopicPartition, Position] = {}
        self._found: str | None = None

    @property
    def problem(self) -> str | None:
        """What keeps the group from getting on, or None. Joining is told at once, the rest as the
        last probe found it."""
        if self._group.consumer() is None:
            return "not started"
        return self._found or (None if self._group.joined else "not joined its group yet")

    async def run_once(self) -> None:
        """Measure lag and progress once; raises when the broker doesn't answer."""
        consumer = self._group.consumer()
        if consumer is None:
            return
        assigned = consumer.assignment()
        now_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                ends = await consumer.end_offsets(list(assigned)) if assigned else {}
                positions = {place: await consumer.position(place) for place in assigned}
        except Exception as error:
            self._found = f"the broker doesn't answer: {type(error).__name__}"
            raise
        in_hand = self._group.in_hand()
        for place, handed_out in positions.items():
            # What was handed out and isn't committed is waiting still: a chunk may never end.
            offset = min(handed_out, in_hand.get(place, handed_out))
            before = self._seen.get(place)
            if before is None or before.offset != offset:
                self._seen[place] = Position(offset, now_s)
            metrics.LAG.labels(self._group.route.group, place.topic, str(place.partition)).set(
                max(0, ends[place] - offset)
            )
        for gone in self._seen.keys() - positions.keys():
            del self._seen[gone]
            metrics.LAG.remove(self._group.route.group, gone.topic, str(gone.partition))
        stuck = stalled(self._seen, ends, now_s, self._stalled_after_s)
        self._found = (
            f"no progress for {self._stalled_after_s:.0f} s on {', '.join(stuck)}"
            if stuck
            else None
        )
