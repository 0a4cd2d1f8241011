"""The relay publishes what was just committed, from memory, and marks the chunk.

The next chunk waits for neither. The relay's memory is bounded: what doesn't fit, and what a
crash left, is the sweeper's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from shared import backoff, crash_points
from shared.database import faults
from shared.pipeline import outbox
from shared.telemetry import metrics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database import Pool
    from shared.kafka.publisher import Publisher
    from shared.pipeline.outbox import Chunk

_log = get_logger(__name__)

MESSAGES_AT_ONCE = 2_000
MEMORY_BYTES = 64 * 1024 * 1024
"""What may wait in memory, of keys and values: 20,000 messages of the usual size are a third of
it, as many dead letters would be gigabytes."""
MARK_INTERVAL_S = 0.5
"""Marks wait for so long for others to go with: a process that dies meanwhile publishes again what
it published in that time."""


class Relay:
    """Publishes chunks in the order in which they were submitted."""

    def __init__(
        self,
        owner: str,
        source: str,
        pool: Pool,
        publisher: Publisher,
        *,
        memory_messages: int,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """`owner` is the instance that holds the chunks' leases, `source` the `ce_source`."""
        self.owner = owner
        self._source = source
        self._pool = pool
        self._publisher = publisher
        self._memory_messages = memory_messages
        self._memory_bytes = memory_bytes
        self._queue: deque[Chunk] = deque()
        self._queued_messages = 0
        self._queued_bytes = 0
        self._in_memory: set[int] = set()
        self._wake = asyncio.Event()
        self._unmarked: list[int] = []
        self._mark_wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, chunks: Sequence[Chunk]) -> None:
        """Take committed chunks; leaves them to the sweeper where memory is full."""
        for chunk in chunks:
            messages = self._queued_messages + len(chunk.rows)
            held_bytes = self._queued_bytes + _bytes_of(chunk)
            full = messages > self._memory_messages or held_bytes > self._memory_bytes
            if full and self._queue:
                metrics.RELAY_OVERFLOWS.inc()
                continue
            self._queue.append(chunk)
            self._queued_messages = messages
            self._queued_bytes = held_bytes
            self._in_memory.add(chunk.chunk_id)
            self._idle.clear()
        self._wake.set()

    def in_memory(self) -> list[int]:
        """The chunks that are this relay's to publish or to mark: the sweeper leaves them."""
        return list(self._in_memory)

    async def drain(self) -> None:
        """Wait until all that was submitted is published and marked."""
        await self._idle.wait()

    async def publish_forever(self) -> None:
        """Publish what is submitted, until cancelled."""
        attempt = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                taken = self._take()
                try:
                    await self.publish(taken)
                except Exception as error:  # noqa: BLE001 - counted, and tried again
                    attempt += 1
                    metrics.RELAY_FAILURES.labels(faults.cause(error)).inc()
                    _log.warning(
                        "publish_failed",
                        error=type(error).__name__,
                        chunks=len(taken),
                        attempt=attempt,
                    )
                    self._queue.extendleft(reversed(taken))
                    await asyncio.sleep(backoff.delay_s(attempt))
                else:
                    attempt = 0
                    self._queued_messages -= sum(len(chunk.rows) for chunk in taken)
                    self._queued_bytes -= sum(map(_bytes_of, taken))
                    self._unmarked.extend(chunk.chunk_id for chunk in taken)
                    self._mark_wake.set()

    async def mark_forever(self) -> None:
        """Mark what is published, many chunks at a time, until cancelled."""
        attempt = 0
        while True:
            await self._mark_wake.wait()
            await asyncio.sleep(MARK_INTERVAL_S)
            self._mark_wake.clear()
            marked, self._unmarked = self._unmarked, []
            try:
                async with self._pool.acquire() as connection:
                    await outbox.mark_published(connection, marked)
            except Exception as error:  # noqa: BLE001 - counted, and tried again
                attempt += 1
                metrics.RELAY_FAILURES.labels(faults.cause(error)).inc()
                self._unmarked = marked + self._unmarked
                self._mark_wake.set()
                if faults.leaves_pool_stale(error):
                    await self._pool.expire_connections()
                await asyncio.sleep(backoff.delay_s(attempt))
            else:
                attempt = 0
                self._in_memory.difference_update(marked)
                if not self._in_memory:
                    self._idle.set()

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        """Publish the rows of `chunks` now, in order; the sweeper's way in."""
        records = [record for chunk in chunks for record in chunk.records(self._source)]
        await self._publisher.publish(records)
        crash_points.reach("after_publish")

    def _take(self) -> list[Chunk]:
        taken = [self._queue.popleft()]
        messages = len(taken[0].rows)
        while self._queue and messages + len(self._queue[0].rows) <= MESSAGES_AT_ONCE:
            taken.append(self._queue.popleft())
            messages += len(taken[-1].rows)
        return taken


def _bytes_of(chunk: Chunk) -> int:
    return sum([len(row.key or b"") + len(row.value or b"") for row in chunk.rows])
