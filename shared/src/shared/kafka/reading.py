"""Reading the broker from outside of every group: topics to their end, and a group's lag.

    async with open_reader(connection) as reader:
        partitions = await partitions_of(connection, ["orders.events.v1"])
        async for records in reader.read(await reader.spans(partitions)): ...

Memory is bounded by what the broker sends at once: records are passed on in batches and not kept.
A partition is read up to where it ended when it was asked, so that what comes meanwhile is none of
the same reading. All topics are the contract's names, without the prefix.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, for_code

from shared.contracts.topics import MAX_DEAD_LETTER_BYTES
from shared.kafka.topics import TopicError, admin_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from aiokafka.admin import AIOKafkaAdminClient

    from shared.kafka.connection import KafkaConnection

RECORDS_PER_BATCH: Final = 5_000
SILENCE_S: Final = 30.0
"""How long the broker may keep silent before reading fails."""
COORDINATOR_PAUSE_S: Final = 0.2
PARTITION_FETCH_BYTES: Final = MAX_DEAD_LETTER_BYTES + 64 * 1024
"""What the broker sends of a partition at once: at least the largest message of any topic."""

Spans = dict[TopicPartition, range]
"""Of each partition the offsets to read: from the first, up to but without the end."""


class SilentBrokerError(TopicError):
    """The broker was reached, and says nothing."""


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


def consumer_of(connection: KafkaConnection) -> AIOKafkaConsumer:
    """A consumer in no group, of committed records, that isn't started yet."""
    return AIOKafkaConsumer(
        **connection.client_options(),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
    )


@asynccontextmanager
async def open_reader(connection: KafkaConnection) -> AsyncIterator[TopicReader]:
    """A reader of any topic. Raises KafkaConnectionError where no broker answers."""
    consumer = consumer_of(connection)
    try:
        await consumer.start()
        yield TopicReader(connection, consumer)
    finally:
        await consumer.stop()


class TopicReader:
    """Reads what lies on topics, one reading at a time."""

    def __init__(self, connection: KafkaConnection, consumer: AIOKafkaConsumer) -> None:
        self._connection = connection
        self._consumer = consumer

    async def spans(
        self, partitions: Sequence[TopicPartition], since_ms: int | None = None
    ) -> Spans:
        """What lies in `partitions` now; with `since_ms`, without what lies before the first record
        of that time. Raises SilentBrokerError."""
        async with _answering(self._connection):
            begins = dict(await self._consumer.beginning_offsets(partitions))
            ends = dict(await self._consumer.end_offsets(partitions))
            if since_ms is not None:
                times = dict.fromkeys(partitions, since_ms)
                for one, first in (await self._consumer.offsets_for_times(times)).items():
                    # none of that time or later: nothing to read
                    begins[one] = max(first.offset, begins[one]) if first else ends[one]
        return {one: range(begins[one], ends[one]) for one in partitions}

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where they end now. Raises the broker's errors."""
        return dict(await self._consumer.end_offsets(list(partitions)))

    async def read(
        self, spans: Mapping[TopicPartition, range]
    ) -> AsyncIterator[list[ConsumerRecord[bytes | None, bytes | None]]]:
        """Yields all records in `spans`, in batches of one partition, each in its order.

        Raises SilentBrokerError where the broker falls silent.
        """
        open_ones = {one for one, span in spans.items() if span}
        if not open_ones:
            return
        self._consumer.assign(open_ones)
        for one in open_ones:
            self._consumer.seek(one, spans[one].start)
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        while open_ones:
            async with _answering(self._connection):
                batches: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
                    *open_ones, timeout_ms=100, max_records=RECORDS_PER_BATCH
                )
                # Positions may pass the end by markers and compacted records, which are no records.
                places = {one: await self._consumer.position(one) for one in open_ones}
            finished = [one for one, place in places.items() if place >= spans[one].stop]
            for partition, records in batches.items():
                wanted = [record for record in records if record.offset in spans[partition]]
                if wanted:
                    yield wanted
            if batches or finished:
                heard_at = clock()  # after the yields: what is done with records is not silence
            elif clock() - heard_at > SILENCE_S:
                raise _silent(self._connection)
            open_ones.difference_update(finished)
            if open_ones and finished:
                self._consumer.pause(*finished)


async def partitions_of(connection: KafkaConnection, topics: Iterable[str]) -> list[TopicPartition]:
    """All partitions of `topics`. Raises TopicError where one does not exist or can't be read."""
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
) -> AsyncIterator[list[ConsumerRecord[bytes | None, bytes | None]]]:
    """Yields all records that lie on `topics` when this starts, in batches of one partition.

    Raises TopicError for a missing topic, SilentBrokerError where the broker falls silent.
    """
    async with open_reader(connection) as reader:
        spans = await reader.spans(await partitions_of(connection, topics))
        async for records in reader.read(spans):
            yield records


async def standings(
    connection: KafkaConnection, group: str, topics: Iterable[str]
) -> dict[TopicPartition, Standing]:
    """How far `group` has come in each partition of `topics`.

    Partitions of the answer have the broker's names. Raises TopicError for a missing topic,
    SilentBrokerError where the broker says nothing.
    """
    async with open_groups(connection, {group: topics}) as groups:
        return (await groups.standings())[group]


@asynccontextmanager
async def open_groups(
    connection: KafkaConnection, topics: Mapping[str, Iterable[str]]
) -> AsyncIterator[GroupReader]:
    """Tells how far each group of `topics` has come in its topics, as often as it is asked.

    Raises what `standings` raises.
    """
    partitions = {group: await partitions_of(connection, names) for group, names in topics.items()}
    async with AsyncExitStack() as opened:
        async with _answering(connection):
            client = await opened.enter_async_context(admin_client(connection))
            reader = await opened.enter_async_context(open_reader(connection))
        yield GroupReader(connection, client, reader, partitions)


class GroupReader:
    """Looks at several groups over the same connections."""

    def __init__(
        self,
        connection: KafkaConnection,
        client: AIOKafkaAdminClient,
        reader: TopicReader,
        partitions: Mapping[str, list[TopicPartition]],
    ) -> None:
        self._connection = connection
        self._client = client
        self._reader = reader
        self._partitions = partitions

    async def standings(self) -> dict[str, dict[TopicPartition, Standing]]:
        """How far each group has come, by partition. Raises SilentBrokerError."""
        # Committed first: an offset that is committed in between can only make the lag look larger.
        async with _answering(self._connection):
            offsets = {
                group: await _group_offsets(self._client, self._connection.named(group), partitions)
                for group, partitions in self._partitions.items()
            }
        every = sorted({one for partitions in self._partitions.values() for one in partitions})
        spans = await self._reader.spans(every)
        return {
            group: {one: _standing(offsets[group].get(one), spans[one]) for one in partitions}
            for group, partitions in self._partitions.items()
        }

    async def lags(self) -> dict[str, int]:
        """Messages that each group has yet to read. Raises SilentBrokerError."""
        found = await self.standings()
        return {group: sum(one.lag for one in those.values()) for group, those in found.items()}


def _standing(offset: Any, span: range) -> Standing:
    committed = -1 if offset is None else offset.offset
    return Standing(committed if committed >= 0 else None, span.start, span.stop)


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


@asynccontextmanager
async def _answering(connection: KafkaConnection) -> AsyncIterator[None]:
    """Bounds how long the broker may take; its time-out is no OSError of somebody else."""
    try:
        async with asyncio.timeout(SILENCE_S):
            yield
    except TimeoutError as error:
        raise _silent(connection) from error


def _silent(connection: KafkaConnection) -> SilentBrokerError:
    return SilentBrokerError(
        f"Kafka at {connection.bootstrap_servers} says nothing for {SILENCE_S:g} s"
    )
