"""Reading the topics of dead letters: all of them, or one place.

Memory is bounded: letters are passed on in batches and not kept, one topic after the other. A topic
is read up to where it ended at the start, so that letters which come meanwhile, those of a replay
among them, are never read in the same pass.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from orderctl.dead_letters.letter import DEAD_LETTER_TOPICS, Letter, Place
from orderctl.errors import OperatorError
from shared.contracts.topics import DEAD_LETTER_RETENTION_MS
from shared.kafka.reading import SilentBrokerError, TopicReader, open_reader, partitions_of
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from shared.kafka.connection import KafkaConnection

PROGRESS_EVERY_S: Final = 2.0
_RETENTION_DAYS: Final = DEAD_LETTER_RETENTION_MS // 86_400_000


@asynccontextmanager
async def open_letters(connection: KafkaConnection) -> AsyncIterator[Letters]:
    """The letters of a deployment. Raises KafkaConnectionError where no broker answers."""
    try:
        async with open_reader(connection) as reader:
            yield Letters(connection, reader)
    except SilentBrokerError as error:
        raise OperatorError(f"{error}; `make status` tells how the stack is") from error


class Letters:
    """Reads dead letters."""

    def __init__(self, connection: KafkaConnection, reader: TopicReader) -> None:
        self._connection = connection
        self._reader = reader

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
        partitions = await self._partitions(topics or DEAD_LETTER_TOPICS)
        spans = await self._reader.spans(partitions, since_ms)
        total = sum(map(len, spans.values()))
        read, told_at = 0, asyncio.get_running_loop().time()
        for name in dict.fromkeys(one.topic for one in spans):
            own = {one: span for one, span in spans.items() if one.topic == name}
            async for records in self._reader.read(own):
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
        span = (await self._reader.spans([partition]))[partition]
        if place.offset >= span.stop:
            held = f"the last there is at {span.stop - 1}" if span else "nothing lies there now"
            raise OperatorError(
                f"no letter is at {place} yet: {held}; `orderctl dlq list` tells places"
            )
        if place.offset < span.start:
            raise OperatorError(
                f"the letter at {place} is gone: {place.topic} keeps letters for"
                f" {_RETENTION_DAYS} days, and partition {place.partition} now begins at"
                f" {span.start}"
            )
        found = await self._letter_at(partition, place, span.stop)
        if found is None:
            raise OperatorError(f"no letter is at {place}; `orderctl dlq list` tells places")
        return found

    async def headers_of_origin(self, letter: Letter) -> dict[str, str]:
        """The headers of the message as it came, while its topic still holds it; else none."""
        origin = letter.origin_place
        if origin is None:
            return {}
        partition = TopicPartition(self._connection.named(origin.topic), origin.partition)
        try:
            if partition not in await self._partitions([origin.topic]):
                return {}
            span = (await self._reader.spans([partition]))[partition]
            if origin.offset not in span:
                return {}
            found = await self._letter_at(partition, origin, span.stop)
        except (OperatorError, KafkaError):
            return {}
        return found.headers if found is not None else {}

    async def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        try:
            return await partitions_of(self._connection, topics)
        except TopicError as error:
            raise OperatorError(
                f"{error}; `orderctl topics check` tells what is missing"
            ) from error

    async def _letter_at(self, partition: TopicPartition, place: Place, end: int) -> Letter | None:
        async for records in self._reader.read({partition: range(place.offset, end)}):
            return Letter.of(records[0], place.topic) if records[0].offset == place.offset else None
        return None
