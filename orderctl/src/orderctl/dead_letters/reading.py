"""Reading the topics of dead letters, from outside of every group: all of them, or one place.

Memory is bounded by what the broker sends at once: letters are passed on in batches and not kept.
A topic is read up to where it ended at the start, so that letters which come meanwhile, those of
a replay among them, are never read in the same pass.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from orderctl.dead_letters.letter import DEAD_LETTER_TOPICS, Letter, Place
from orderctl.errors import OperatorError
from shared.audit.reading import partitions_of
from shared.contracts.topics import DEAD_LETTER_RETENTION_MS, MAX_DEAD_LETTER_BYTES
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiokafka import ConsumerRecord

    from shared.kafka.connection import KafkaConnection

RECORDS_PER_BATCH: Final = 2_000
FETCH_BYTES: Final = MAX_DEAD_LETTER_BYTES + 64 * 1024
"""Of one partition: at least the largest letter."""
SILENCE_S: Final = 30.0
"""How long the broker may keep silent before reading fails."""
PROGRESS_EVERY_S: Final = 2.0
_RETENTION_DAYS: Final = DEAD_LETTER_RETENTION_MS // 86_400_000


@asynccontextmanager
async def open_letters(connection: KafkaConnection) -> AsyncIterator[Letters]:
    """The letters of a deployment. Raises KafkaConnectionError where no broker answers."""
    consumer = AIOKafkaConsumer(
        **connection.client_options(),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        await consumer.start()
        yield Letters(connection, consumer)
    except TimeoutError as error:
        raise OperatorError(
            f"Kafka at {connection.bootstrap_servers} says nothing for {SILENCE_S:g} s;"
            " `make status` tells how the stack is"
        ) from error
    finally:
        await consumer.stop()


class Letters:
    """Reads dead letters."""

    def __init__(self, connection: KafkaConnection, consumer: AIOKafkaConsumer) -> None:
        self._connection = connection
        self._consumer = consumer

    async def scan(
        self,
        topics: Sequence[str] = (),
        since_ms: int | None = None,
        progress: Callable[[int, int], None] = lambda read, total: None,
    ) -> AsyncIterator[list[Letter]]:
        """Yields what lies on `topics`, or on all, in batches; letters of one partition in order.

        `since_ms` leaves out what lies before the first letter of that time. `progress` is told
        how many were read, of how many, every few seconds.
        """
        starts, ends = await self._bounds(topics or DEAD_LETTER_TOPICS, since_ms)
        total = sum(ends[one] - starts[one] for one in ends)
        read, told_at = 0, asyncio.get_running_loop().time()
        for name in dict.fromkeys(one.topic for one in starts):
            own = [one for one in starts if one.topic == name and starts[one] < ends[one]]
            async for records in self._read(own, starts, ends):
                read += len(records)
                now = asyncio.get_running_loop().time()
                if now - told_at >= PROGRESS_EVERY_S:
                    told_at = now
                    progress(read, total)
                yield [Letter.of(one, self._connection.plain(one.topic)) for one in records]

    async def at(self, place: Place) -> Letter:
        """The letter at that place. Raises OperatorError where there is none, and why."""
        partition = TopicPartition(self._connection.named(place.topic), place.partition)
        partitions = await self._partitions([place.topic])
        if partition not in partitions:
            raise OperatorError(
                f"there is no {place}: {place.topic} has the partitions 0 to {len(partitions) - 1}"
            )
        async with asyncio.timeout(SILENCE_S):
            begin = (await self._consumer.beginning_offsets([partition]))[partition]
            end = (await self._consumer.end_offsets([partition]))[partition]
        if place.offset >= end:
            held = f"the last there is at {end - 1}" if end > begin else "nothing lies there now"
            raise OperatorError(
                f"no letter is at {place} yet: {held}; `orderctl dlq list` tells places"
            )
        if place.offset < begin:
            raise OperatorError(
                f"the letter at {place} is gone: {place.topic} keeps letters for"
                f" {_RETENTION_DAYS} days, and partition {place.partition} now begins at {begin}"
            )
        found = await self._record_at(partition, place.offset, end)
        if found is None:
            raise OperatorError(f"no letter is at {place}; `orderctl dlq list` tells places")
        return Letter.of(found, place.topic)

    async def headers_of_origin(self, letter: Letter) -> dict[str, str]:
        """The headers of the message as it came, while its topic still holds it; else none."""
        origin = letter.origin_place
        if origin is None:
            return {}
        partition = TopicPartition(self._connection.named(origin.topic), origin.partition)
        try:
            if partition not in await self._partitions([origin.topic]):
                return {}
            async with asyncio.timeout(SILENCE_S):
                begin = (await self._consumer.beginning_offsets([partition]))[partition]
                end = (await self._consumer.end_offsets([partition]))[partition]
            if not begin <= origin.offset < end:
                return {}
            found = await self._record_at(partition, origin.offset, end)
        except (OperatorError, KafkaError):
            return {}
        return Letter.of(found, origin.topic).headers if found is not None else {}

    async def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        try:
            return await partitions_of(self._connection, topics)
        except TopicError as error:
            raise OperatorError(
                f"{error}; `orderctl topics check` tells what is missing"
            ) from error

    async def _bounds(
        self, topics: Sequence[str], since_ms: int | None
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """From where and up to where each partition is to be read."""
        partitions = await self._partitions(topics)
        async with asyncio.timeout(SILENCE_S):
            starts = dict(await self._consumer.beginning_offsets(partitions))
            ends = dict(await self._consumer.end_offsets(partitions))
            if since_ms is not None:
                found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
                for one in partitions:
                    first = found.get(one)
                    # none of that time or later: nothing to read
                    starts[one] = ends[one] if first is None else max(first.offset, starts[one])
        return starts, ends

    async def _read(
        self,
        partitions: Sequence[TopicPartition],
        starts: dict[TopicPartition, int],
        ends: dict[TopicPartition, int],
    ) -> AsyncIterator[list[ConsumerRecord[Any, Any]]]:
        if not partitions:
            return
        self._consumer.assign(partitions)
        for one in partitions:
            self._consumer.seek(one, starts[one])
        open_ones = set(partitions)
        heard_at = asyncio.get_running_loop().time()
        while open_ones:
            async with asyncio.timeout(SILENCE_S):
                batches: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
                    *open_ones, timeout_ms=100, max_records=RECORDS_PER_BATCH
                )
                # Positions may pass the end by markers of transactions, which are no records.
                finished = [
                    one for one in open_ones if await self._consumer.position(one) >= ends[one]
                ]
            now = asyncio.get_running_loop().time()
            if batches or finished:
                heard_at = now
            elif now - heard_at > SILENCE_S:
                raise TimeoutError
            for partition, records in batches.items():
                wanted = [record for record in records if record.offset < ends[partition]]
                if wanted:
                    yield wanted
            open_ones.difference_update(finished)
            if open_ones and finished:
                self._consumer.pause(*finished)

    async def _record_at(
        self, partition: TopicPartition, offset: int, end: int
    ) -> ConsumerRecord[Any, Any] | None:
        async for records in self._read([partition], {partition: offset}, {partition: end}):
            return records[0] if records[0].offset == offset else None
        return None
