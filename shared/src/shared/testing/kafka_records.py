"""What lies on a topic, and a reader that keeps it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiokafka.partitioner import murmur2

from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import PARTITIONS, TOPICS
from shared.kafka.reading import consumer_of, partitions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import AIOKafkaConsumer

    from shared.contracts.base import Message
    from shared.kafka.connection import KafkaConnection

POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Record:
    """What lies on a topic, or is to lie there."""

    value: bytes | None
    key: str | None = None
    headers: Mapping[str, str | bytes | None] = field(default_factory=dict)
    """Text where it was read; to publish, also bytes and null."""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1

    @property
    def json(self) -> dict[str, Any]:
        """The value as an object; raises ValueError where it is none."""
        parsed: dict[str, Any] = json.loads(self.value or b"")
        return parsed

    @property
    def message(self) -> Message:
        """The value as a message of its topic; raises AssertionError where it is none."""
        message = reader_of(TOPICS[self.topic]).read(self.value)
        assert not isinstance(message, Unreadable), f"{message} in {self}"
        return message


def keys_on_all_partitions(prefix: str, count: int) -> list[str]:
    """Keys of which each lies on the partition that follows the last one's."""
    found: list[str] = []
    for number in itertools.count():
        key = f"{prefix}{number}"
        if len(found) == count:
            break
        if (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS == len(found) % PARTITIONS:
            found.append(key)
    return found


class Tail:
    """A reader of one topic, in no group, that keeps what it has read."""

    def __init__(self, connection: KafkaConnection, consumer: AIOKafkaConsumer) -> None:
        self.consumer = consumer
        self.records: list[Record] = []
        self._connection = connection

    @classmethod
    async def open(cls, connection: KafkaConnection, topic: str, *, from_end: bool = False) -> Tail:
        """Begins at the topic's beginning, or at its end as it is now. Raises TopicError where
        there is no such topic."""
        partitions = await partitions_of(connection, [topic])
        consumer = consumer_of(connection)
        await consumer.start()
        consumer.assign(partitions)
        if from_end:
            await consumer.seek_to_end(*partitions)
            # each seek is done lazily, with the first look at the position
            for partition in partitions:
                await consumer.position(partition)
        else:
            await consumer.seek_to_beginning(*partitions)
        return cls(connection, consumer)

    async def poll(self) -> None:
        """Takes what has arrived, or waits for it a moment."""
        for batch in (await self.consumer.getmany(timeout_ms=POLL_MS)).values():
            self.records.extend(
                Record(
                    value=record.value,
                    key=None if record.key is None else record.key.decode("utf-8", "replace"),
                    headers={
                        name: (value or b"").decode("utf-8", "replace")
                        for name, value in record.headers
                    },
                    topic=self._connection.plain(record.topic),
                    partition=record.partition,
                    offset=record.offset,
                    timestamp_ms=record.timestamp,
                )
                for record in batch
            )

    async def catch_up(self) -> None:
        """Takes all that lies on the topic now."""
        partitions = list(self.consumer.assignment())
        ends = await self.consumer.end_offsets(partitions)
        for partition in partitions:
            while await self.consumer.position(partition) < ends[partition]:
                await self.poll()
