"""The benchmark on the broker: publishing, waiting for a number of answers, reading them after."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from bench.errors import BenchError
from shared.contracts.topics import TOPICS
from shared.kafka.reading import TopicReader, open_reader, partitions_of
from shared.kafka.topics import admin_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import TypeAlias

    from aiokafka import ConsumerRecord

    from shared.kafka.connection import KafkaConnection

    Stored: TypeAlias = ConsumerRecord[bytes | None, bytes | None]

POLL_S = 0.25
BATCH_BYTES = 256 * 1024
TOGETHER = 20
"""Messages that are handed over before others leave."""
TYPE_HEADER = "ce_type"

Ends = dict[TopicPartition, int]


class Outgoing(NamedTuple):
    """A message to be published."""

    key: bytes
    value: bytes


class Answer(NamedTuple):
    """A message that the system published."""

    kind: str
    key: str
    at_ms: int
    """When the broker stored it, milliseconds since the epoch."""


class Bus:
    """A producer and a reader on the stack's broker."""

    def __init__(
        self, connection: KafkaConnection, producer: AIOKafkaProducer, reader: TopicReader
    ) -> None:
        self._connection = connection
        self._producer = producer
        self._reader = reader

    async def publish(
        self, topic: str, message: Outgoing, *, keyed: bool = True
    ) -> asyncio.Future[object]:
        """Hand it to the producer; the future ends when the broker has it.

        Without its key it goes to any partition.
        """
        name, key = self._connection.named(topic), message.key if keyed else None
        future: asyncio.Future[object] = await self._producer.send(name, message.value, key=key)
        return future

    async def publish_all(self, topic: str, messages: Sequence[Outgoing]) -> None:
        """Publish them as fast as the broker takes them. Raises the broker's errors."""
        sent = [await self.publish(topic, message) for message in messages]
        await asyncio.gather(*sent)

    async def publish_in_turn(
        self, topic: str, messages: Sequence[Outgoing], *, keyed: bool = True
    ) -> None:
        """The same, but those that come first leave while others are yet to come.

        The broker stores what leaves together in one millisecond.
        """
        sent = []
        for number, message in enumerate(messages, 1):
            sent.append(await self.publish(topic, message, keyed=keyed))
            if number % TOGETHER == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*sent)

    async def ends(self, topic: str) -> Ends:
        """Where each partition of the topic ends now."""
        return await self._reader.ends(await partitions_of(self._connection, [topic]))

    async def grown(self, since: Ends, by: int, *, within_s: float) -> None:
        """Wait until the partitions hold `by` more messages than they did.

        Raises BenchError where none come for so long; nothing else is asked of the system.
        """
        start = sum(since.values())
        seen, deadline = 0, time.monotonic() + within_s
        while True:
            now = sum((await self._reader.ends(since)).values()) - start
            if now >= by:
                return
            if now > seen:
                seen, deadline = now, time.monotonic() + within_s
            if time.monotonic() > deadline:
                topic = self._connection.plain(next(iter(since)).topic)
                raise BenchError(
                    f"{now:,} of {by:,} messages came on {topic}, and none for {within_s:.0f} s"
                )
            await asyncio.sleep(POLL_S)

    async def answers(self, since: Ends) -> list[Answer]:
        """Every message from there to the end."""
        return [
            Answer(kind_of(record), (record.key or b"").decode(), record.timestamp)
            for record in await self.records(since)
        ]

    async def records(self, since: Ends) -> list[Stored]:
        """The same as they lie there."""
        ends = await self._reader.ends(since)
        spans = {place: range(start, ends[place]) for place, start in since.items()}
        return [record async for records in self._reader.read(spans) for record in records]


def kind_of(record: Stored) -> str:
    """The type of a message that the system published."""
    kind: bytes = dict(record.headers).get(TYPE_HEADER, b"")
    return kind.decode()


@asynccontextmanager
async def open_bus(connection: KafkaConnection) -> AsyncIterator[Bus]:
    """A bus whose messages leave at once."""
    producer = AIOKafkaProducer(
        **connection.client_options(), acks="all", linger_ms=0, max_batch_size=BATCH_BYTES
    )
    async with producer, open_reader(connection) as reader:
        yield Bus(connection, producer, reader)


async def stamp_by_broker(connection: KafkaConnection, topics: Sequence[str]) -> None:
    """Let the broker's clock stamp what is published on `topics`, not the publisher's."""
    async with admin_client(connection) as client:
        for response in await client.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC,
                    connection.named(topic),
                    # All of them: what is left out goes back to the broker's default.
                    {**TOPICS[topic].config, "message.timestamp.type": "LogAppendTime"},
                )
                for topic in topics
            ]
        ):
            for code, *detail in response.resources:
                if code:
                    raise BenchError(f"a topic can't be set up: {for_code(code).__name__} {detail}")
