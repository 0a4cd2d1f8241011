"""Up to which moment everything that was there has been read and applied.

An order whose reply waits in a topic must not be undone for a lack of replies. So a moment counts
as read once the group has committed, on every partition, the offset where the topic ended then:
offsets are committed after the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from order_orchestrator.metrics import HORIZON_AGE
from shared.kafka.topics import admin_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiokafka import AIOKafkaConsumer
    from aiokafka.admin import AIOKafkaAdminClient

    from shared.kafka.connection import KafkaConnection

NEVER = datetime.min.replace(tzinfo=UTC)
SNAPSHOTS = 120
PROBE_TIMEOUT_S = 10.0


def has_read(committed: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> bool:
    """Whether a group with these committed offsets has read all up to these ends."""
    return all(committed.get(place, 0) >= end for place, end in ends.items())


class ReadHorizon:
    """Follows one consumer group over all its partitions, whoever they are assigned to."""

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        kafka: KafkaConnection,
        now: Callable[[], Awaitable[datetime]],
    ) -> None:
        """`now` reads the database's clock."""
        self._group = group
        self._topics = [kafka.named(topic) for topic in topics]
        self._kafka = kafka
        self._now = now
        self._open = contextlib.AsyncExitStack()
        self._admin: AIOKafkaAdminClient | None = None
        self._taken: deque[tuple[datetime, dict[TopicPartition, int]]] = deque()
        self.read_up_to = NEVER

    async def run_once(self, consumer: AIOKafkaConsumer | None) -> None:
        """Look where the topics end and how far the group has come."""
        if consumer is None:
            return
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                if self._admin is None:
                    self._admin = await self._open.enter_async_context(admin_client(self._kafka))
                await self._look(consumer, self._admin)
        except Exception:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection; the next look opens another."""
        self._admin = None
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(self._open.aclose(), timeout=1.0)

    async def _look(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        partitions = {topic: consumer.partitions_for_topic(topic) for topic in self._topics}
        if not all(partitions.values()):
            return  # metadata leaves out a topic without a leader: what lies there isn't known
        places = [
            TopicPartition(topic, partition)
            for topic, numbers in partitions.items()
            for partition in sorted(numbers or ())
        ]
        at = await self._now()
        # A group that is far behind must still reach a snapshot: old ones stay, new ones wait.
        if len(self._taken) < SNAPSHOTS:
            self._taken.append((at, dict(await consumer.end_offsets(places))))
        # The partitions are named: not every broker answers a request for "all there are".
        found = await admin.list_consumer_group_offsets(
            self._kafka.named(self._group), partitions=places
        )
        committed = {place: max(offset.offset, 0) for place, offset in found.items()}
        while self._taken and has_read(committed, self._taken[0][1]):
            self.read_up_to = self._taken.popleft()[0]
        if self.read_up_to != NEVER:
            HORIZON_AGE.labels(self._group).set((at - self.read_up_to).total_seconds())
