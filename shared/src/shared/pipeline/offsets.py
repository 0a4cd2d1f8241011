"""Offsets are committed after the database, explicitly, by partition, and beside the next chunk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shared import crash_points
from shared.telemetry import metrics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiokafka import AIOKafkaConsumer, ConsumerRecord

_log = get_logger(__name__)

FLUSH_INTERVAL_S = 1.0
"""A process that dies meanwhile reads again what it handled in that time."""
COMMIT_TIMEOUT_S = 5.0


class Offsets:
    """How far a consumer has come, and how much of that the broker knows."""

    def __init__(self, group: str, consumer: Callable[[], AIOKafkaConsumer | None]) -> None:
        """`consumer` gives the present consumer: there is none before the start."""
        self._group = group
        self._consumer = consumer
        self._done: dict[TopicPartition, int] = {}
        self._flushing = asyncio.Lock()

    def done(self, records: Iterable[ConsumerRecord[Any, Any]]) -> None:
        """Record that the effects of `records` are committed in the database."""
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            if self._done.get(partition, -1) <= record.offset:
                self._done[partition] = record.offset + 1

    def forget(self) -> None:
        """Drop what isn't committed: the partitions may be another's by now."""
        self._done.clear()

    async def flush(self) -> None:
        """Commit what is done on partitions that are still assigned.

        A failure is counted and left to the next flush: at worst the messages come again. Waits
        for the flush that is under way.
        """
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        consumer = self._consumer()
        if consumer is None or not self._done:
            return
        taken, self._done = self._done, {}
        assigned = consumer.assignment()
        offsets = {place: offset for place, offset in taken.items() if place in assigned}
        if not offsets:
            return
        try:
            # aiokafka retries a retriable error for ever
            await asyncio.wait_for(consumer.commit(offsets), COMMIT_TIMEOUT_S)
        except (KafkaError, TimeoutError, OSError) as error:
            metrics.COMMIT_FAILURES.labels(self._group).inc()
            _log.warning("offset_commit_failed", group=self._group, error=type(error).__name__)
            for place, offset in offsets.items():
                self._done[place] = max(self._done.get(place, 0), offset)
        else:
            crash_points.reach("after_offset_commit")

    async def flush_forever(self) -> None:
        """Flush every `FLUSH_INTERVAL_S`, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self.flush()
