"""Topics of its own for each test, on one broker: publish, read to the end, wait.

    await topics.create(service="stock")
    await topics.publish("stock.commands.v1", [reserve_stock(order_id="o-1")])
    reply = await topics.message("stock.replies.v1", lambda m: m.order_id == "o-1")
    await topics.wait_drained("stock")

Names are the contract's; the prefix keeps tests apart and is added here. Services under test get
the same prefix as KAFKA_TOPIC_PREFIX.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from pydantic.alias_generators import to_camel

from shared.contracts.base import Message
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import GROUPS, PARTITIONS, TOPICS, dead_letter_topic, service_of
from shared.kafka.reading import standings
from shared.kafka.topics import admin_client, create_topics, verify_topics
from shared.testing.kafka_records import Record, Tail
from shared.testing.signals import ConditionNotMet, eventually

__all__ = ["Record", "Topics", "topics_of"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiokafka.producer.message_accumulator import BatchBuilder

    from shared.kafka.connection import KafkaConnection

PUBLISHED_AT_ONCE = 10_000
MAX_REQUEST_BYTES = 4 * 1_048_576
"""Above what any topic takes, so that it is the broker who refuses."""
RECORDS_SHOWN = 5


class Topics:
    """The topics and groups of one test: all those with its prefix. Close it at the end."""

    def __init__(self, connection: KafkaConnection) -> None:
        self.connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._tails: dict[str, Tail] = {}

    @property
    def prefix(self) -> str:
        """What services are given as KAFKA_TOPIC_PREFIX."""
        return self.connection.topic_prefix

    def through(self, bootstrap_servers: str) -> KafkaConnection:
        """The same topics by another address, as that of a proxy."""
        return replace(self.connection, bootstrap_servers=bootstrap_servers)

    async def create(self, *names: str, service: str | None = None) -> None:
        """Creates topics as the contract says: `names`, those `service` reads or writes, or all.

        A service's are few, and topics are what a test waits for longest.
        """
        wanted = set(names)
        if service is not None:
            wanted |= topics_of(service)
        await create_topics(
            self.connection, [TOPICS[name] for name in sorted(wanted or TOPICS.keys())]
        )
        await verify_topics(self.connection, wanted or TOPICS.keys())

    async def publish(
        self, topic: str, messages: Iterable[Message | Mapping[str, Any] | bytes | Record | None]
    ) -> None:
        """Publishes in order and returns once all are acknowledged.

        Messages and mappings become JSON and get the key that the contract says; bytes and None go
        as they are without a key; a Record brings its own key and headers.
        """
        producer = await self._started()
        name = self.connection.named(topic)
        chunk: list[Record] = []
        for message in messages:
            chunk.append(_outgoing(topic, message))
            if len(chunk) >= PUBLISHED_AT_ONCE:
                await _send(producer, name, chunk)
                chunk.clear()
        await _send(producer, name, chunk)

    async def read(self, topic: str) -> list[Record]:
        """All records that lie on the topic now, those of one partition in order."""
        tail = await self._tail(topic)
        await tail.catch_up()
        return list(tail.records)

    async def messages(self, topic: str) -> list[Message]:
        """The same as messages; raises AssertionError where one can't be read."""
        return [record.message for record in await self.read(topic)]

    async def wait_for(
        self,
        topic: str,
        accept: Callable[[Record], bool] = lambda _: True,
        *,
        count: int = 1,
        within_s: float = 10.0,
    ) -> list[Record]:
        """The first `count` records, from the topic's beginning, that `accept` takes.

        Raises ConditionNotMet with the last records seen.
        """
        tail = await self._tail(topic)
        found: list[Record] = []
        looked_at = 0
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            found += [record for record in tail.records[looked_at:] if accept(record)]
            looked_at = len(tail.records)
            if len(found) >= count:
                return found[:count]
            if asyncio.get_running_loop().time() > deadline:
                last = "\n  ".join(map(str, tail.records[-RECORDS_SHOWN:])) or "(none)"
                raise ConditionNotMet(
                    f"not within {within_s:.1f} s: {count} matching records on {topic}\n"
                    f"  {len(found)} of {looked_at} matched; last records:\n  {last}"
                )
            await tail.poll()

    async def message(
        self, topic: str, accept: Callable[[Any], bool], *, within_s: float = 10.0
    ) -> Any:
        """The first readable message, from the topic's beginning, that `accept` takes."""
        reader = reader_of(TOPICS[topic])

        def matches(record: Record) -> bool:
            message = reader.read(record.value)
            return not isinstance(message, Unreadable) and accept(message)

        found = await self.wait_for(topic, matches, within_s=within_s)
        return found[0].message

    async def lose(self, topic: str, partitions: Iterable[int] = range(PARTITIONS)) -> None:
        """Deletes what lies there now, as retention does in the end, or a lost disk at once."""
        name, all_of_it = self.connection.named(topic), RecordsToDelete(before_offset=-1)
        async with admin_client(self.connection) as client:
            await client.delete_records(
                {TopicPartition(name, number): all_of_it for number in partitions}
            )

    async def lag(self, group: str) -> int:
        """How many messages lie before the group, over all its partitions."""
        found = await standings(self.connection, group, GROUPS[group])
        return sum(standing.lag for standing in found.values())

    async def wait_drained(self, *groups: str, within_s: float = 30.0) -> None:
        """Returns once no message lies before any of `groups`: read and committed."""

        async def lags() -> dict[str, int]:
            return {group: await self.lag(group) for group in groups}

        await eventually(
            lags,
            within_s=within_s,
            describe=f"lag of {', '.join(groups)} is 0",
            accept=lambda found: not any(found.values()),
        )

    async def delete(self) -> None:
        """Deletes every topic with this prefix. The broker frees them in its own time."""
        async with admin_client(self.connection) as client:
            names = [name for name in await client.list_topics() if name.startswith(self.prefix)]
            if self.prefix and names:
                await client.delete_topics(names)

    async def close(self) -> None:
        """Ends all connections; the topics stay."""
        clients = [self._producer, *(tail.consumer for tail in self._tails.values())]
        self._producer = None
        self._tails.clear()
        for client in clients:
            if client is not None:
                with contextlib.suppress(KafkaError, OSError, TimeoutError):
                    await asyncio.wait_for(client.stop(), timeout=5)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self.connection.client_options(),
                acks="all",
                enable_idempotence=self.connection.idempotence,
                max_batch_size=256 * 1024,
                max_request_size=MAX_REQUEST_BYTES,
            )
            await producer.start()
            self._producer = producer
        return self._producer

    async def _tail(self, topic: str) -> Tail:
        if topic not in self._tails:
            self._tails[topic] = await Tail.open(self.connection, topic)
        return self._tails[topic]


def topics_of(service: str) -> set[str]:
    """The topics that a service reads, writes or dead-letters to."""
    groups = [group for group in GROUPS if service_of(group) == service]
    names = {topic.name for topic in TOPICS.values() if service in (topic.owner, topic.writer)}
    names.update(name for group in groups for name in (*GROUPS[group], dead_letter_topic(group)))
    return names


def _outgoing(topic: str, message: Message | Mapping[str, Any] | bytes | Record | None) -> Record:
    if isinstance(message, Record):
        return message
    if message is None or isinstance(message, bytes):
        return Record(message)
    contract = TOPICS.get(topic)
    if isinstance(message, Message):
        return Record(message.to_bytes(), contract.key_of(message) if contract else None)
    key = message.get(to_camel(contract.key)) if contract else None
    return Record(json.dumps(message).encode(), key if isinstance(key, str) else None)


async def _send(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    """Sends whole batches, one for each partition: a third of the cost of record by record."""
    partitions = sorted(await producer.partitions_for(topic))
    by_partition: dict[int, list[Record]] = {}
    for number, record in enumerate(records):
        # As Java's default partitioner does; records without a key go around.
        place = number if record.key is None else murmur2(record.key.encode()) & 0x7FFFFFFF
        by_partition.setdefault(partitions[place % len(partitions)], []).append(record)
    sent: list[asyncio.Future[object]] = []
    for partition, own in by_partition.items():
        batch = producer.create_batch()
        for record in own:
            if _append(batch, record):
                continue
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            assert _append(batch, record), f"{len(record.value or b'')} bytes are too many"
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)


def _append(batch: BatchBuilder, record: Record) -> bool:
    headers = [
        (name, value.encode() if isinstance(value, str) else value)
        for name, value in record.headers.items()
    ]
    key = None if record.key is None else record.key.encode()
    at_ms = record.timestamp_ms if record.timestamp_ms >= 0 else None
    appended = batch.append(key=key, value=record.value, timestamp=at_ms, headers=headers)
    return appended is not None
