"""Reading the broker from outside of every group: topics to their end, and a group's lag."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, for_code

from shared.kafka.topics import TopicError, admin_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from aiokafka import ConsumerRecord
    from aiokafka.admin import AIOKafkaAdminClient

    from shared.kafka.connection import KafkaConnection

RECORDS_PER_BATCH = 5_000
SILENCE_S = 30.0
"""How long the broker may keep silent before reading fails."""
COORDINATOR_PAUSE_S = 0.2
MAX_PARTITION_FETCH_BYTES = 4 * 1_048_576
"""Above the largest message of any topic."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a group has come in one partition."""

    committed: int | None
    """The offset to be read next; None where the group never committed."""
    begin: int
    """The first offset that is still there."""
    end: int
    """The offset that the next message will get."""

    @property
    def lag(self) -> int:
        """How many messages are yet to be read."""
        start = self.begin if self.committed is None else max(self.committed, self.begin)
        return max(self.end - start, 0)


@asynccontextmanager
async def _consumer(connection: KafkaConnection) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **connection.client_options(),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(connection: KafkaConnection, topics: Iterable[str]) -> list[TopicPartition]:
    """All partitions of `topics`, which are the contract's names, without the prefix.

    Raises TopicError where one does not exist or can't be read.
    """
    names = [connection.named(topic) for topic in topics]
    found: list[TopicPartition] = []
    async with admin_client(connection) as client:
        for topic in await client.describe_topics(names):
            if topic["error_code"]:
                error = for_code(topic["error_code"]).__name__
                raise TopicError(f"topic {topic['topic']} can't be read: {error}")
            found.extend(
                TopicPartition(topic["topic"], partition["partition"])
                for partition in topic["partitions"]
            )
    return sorted(found)


async def read_to_end(
    connection: KafkaConnection, topics: Iterable[str]
) -> AsyncIterator[Sequence[ConsumerRecord[bytes | None, bytes | None]]]:
    """Yields all records that lie on `topics` when this starts, in batches of one partition.

    Raises TopicError for a missing topic, TimeoutError where the broker falls silent.
    """
    partitions = await partitions_of(connection, topics)
    async with _consumer(connection) as consumer:
        consumer.assign(partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        open_ones = set(partitions)
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        while open_ones:
            if clock() - heard_at > SILENCE_S:
                raise TopicError(f"the broker says nothing for {SILENCE_S:g} s")
            async with asyncio.timeout(SILENCE_S):
                batches: dict[TopicPartition, list[Any]] = await consumer.getmany(
                    *open_ones, timeout_ms=100, max_records=RECORDS_PER_BATCH
                )
                # Positions may pass the end by markers and compacted records, which are no records.
                finished = [one for one in open_ones if await consumer.position(one) >= ends[one]]
            for partition, records in batches.items():
                wanted = [record for record in records if record.offset < ends[partition]]
                if wanted:
                    yield wanted
            if batches or finished:
                heard_at = clock()
            open_ones.difference_update(finished)
            if open_ones and finished:
                consumer.pause(*finished)


async def _group_offsets(
    client: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]
) -> dict[TopicPartition, Any]:
    while True:
        try:
            # The partitions are named: not every broker answers a request for "all there are".
            offsets: dict[TopicPartition, Any] = await client.list_consumer_group_offsets(
                group, partitions=partitions
            )
        except KafkaError as error:
            # A new broker has no coordinator until somebody asks for one.
            if not error.retriable:
                raise
            await asyncio.sleep(COORDINATOR_PAUSE_S)
        else:
            return offsets


async def standings(
    connection: KafkaConnection, group: str, topics: Iterable[str]
) -> dict[TopicPartition, Standing]:
    """How far `group` has come in each partition of `topics`.

    Group and topics are the contract's names; partitions of the answer have the broker's.
    """
    partitions = await partitions_of(connection, topics)
    # Committed first: an offset that is committed in between can only make the lag look larger.
    async with asyncio.timeout(SILENCE_S), admin_client(connection) as client:
        offsets = await _group_offsets(client, connection.named(group), partitions)
    async with _consumer(connection) as consumer:
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    answer = {}
    for one in partitions:
        committed = offsets[one].offset if one in offsets else -1
        answer[one] = Standing(committed if committed >= 0 else None, begins[one], ends[one])
    return answer
