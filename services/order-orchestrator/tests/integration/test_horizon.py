"""Up to when a group has read, on a real broker: the ground for giving an order up."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from order_orchestrator.horizon import NEVER, ReadHorizon, has_read
from shared.contracts.topics import GROUPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.kafka import Topics

GROUP = "order-orchestrator"
TOPIC = "payment.replies.v1"
START = datetime(2026, 1, 1, tzinfo=UTC)

places = st.integers(0, 5).map(lambda number: TopicPartition("t", number))
offsets = st.dictionaries(places, st.integers(0, 3))


@given(committed=offsets, ends=offsets)
def test_has_read_is_said_of_every_partition_or_not_at_all(
    committed: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> None:
    behind = [place for place, end in ends.items() if committed.get(place, 0) < end]
    assert has_read(committed, ends) is not bool(behind)


class Clock:
    """The database's, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    async def read(self) -> datetime:
        return self.now

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Reader:
    """A member of the group whose commits a test makes."""

    def __init__(self, consumer: AIOKafkaConsumer, topics: Topics) -> None:
        self.consumer = consumer
        self._topics = topics
        self.clock = Clock()
        self.horizon = ReadHorizon(GROUP, GROUPS[GROUP], topics.connection, self.clock.read)

    async def look(self) -> datetime:
        await self.horizon.run_once(self.consumer)
        return self.horizon.read_up_to

    async def commit_all(self, topic: str = TOPIC) -> None:
        name = self._topics.connection.named(topic)
        found = [TopicPartition(name, number) for number in range(12)]
        await self.consumer.commit(await self.consumer.end_offsets(found))


@pytest.fixture
async def reader(topics: Topics) -> AsyncIterator[Reader]:
    await topics.create(*GROUPS[GROUP])
    async with _joined(topics) as consumer:
        reader = Reader(consumer, topics)
        yield reader
        await reader.horizon.close()


@asynccontextmanager
async def _joined(topics: Topics) -> AsyncIterator[AIOKafkaConsumer]:
    connection = topics.connection
    consumer = AIOKafkaConsumer(
        *map(connection.named, GROUPS[GROUP]),
        **connection.client_options(),
        group_id=connection.named(GROUP),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def test_f18_a_moment_is_read_once_all_that_was_there_is_committed(
    reader: Reader, topics: Topics
) -> None:
    assert reader.horizon.read_up_to == NEVER
    empty_at = reader.clock.tick()
    assert await reader.look() == empty_at, "where nothing was, nothing waits"

    await topics.publish(TOPIC, [b"1", b"2", b"3"])
    reader.clock.tick()
    assert await reader.look() == empty_at
    reader.clock.tick()
    assert await reader.look() == empty_at, "looking again reads nothing"

    await reader.commit_all()
    await topics.publish(TOPIC, [b"4"])
    last_covered = reader.clock.now
    reader.clock.tick()
    assert await reader.look() == last_covered, "up to the last look whose ends were committed"

    await reader.commit_all()
    assert await reader.look() == reader.clock.now


async def test_f18_one_partition_behind_holds_back_the_whole(
    reader: Reader, topics: Topics
) -> None:
    await topics.publish(TOPIC, [b"waits"])
    await topics.publish("stock.replies.v1", [b"read"])
    reader.clock.tick()
    await reader.look()
    await reader.commit_all("stock.replies.v1")
    reader.clock.tick()
    assert await reader.look() == NEVER
    await reader.commit_all()
    assert await reader.look() == reader.clock.now


async def test_a_group_that_is_far_behind_still_reaches_a_moment(
    reader: Reader, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: of the moments that wait, old ones stay and new ones are not taken."""
    monkeypatch.setattr("order_orchestrator.horizon.SNAPSHOTS", 3)
    await topics.publish(TOPIC, [b"waits"])
    looks = []
    for _ in range(9):
        looks.append(reader.clock.tick())
        assert await reader.look() == NEVER
    await reader.commit_all()
    assert await reader.look() == looks[2]
    assert await reader.look() == reader.clock.now


async def test_without_a_consumer_nothing_is_said(topics: Topics) -> None:
    clock = Clock()
    horizon = ReadHorizon(GROUP, GROUPS[GROUP], topics.connection, clock.read)
    await horizon.run_once(None)
    assert horizon.read_up_to == NEVER


async def test_f41_a_broker_that_does_not_answer_moves_nothing(
    reader: Reader, topics: Topics
) -> None:
    nowhere = topics.through("127.0.0.1:9")
    horizon = ReadHorizon(GROUP, GROUPS[GROUP], nowhere, reader.clock.read)
    with pytest.raises(KafkaError):
        await horizon.run_once(reader.consumer)
    assert horizon.read_up_to == NEVER


async def test_f18_a_topic_that_the_client_does_not_know_just_now_is_not_taken_for_read(
    reader: Reader, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata leaves out a topic without a leader, as after a restart of the broker."""
    await topics.publish(TOPIC, [b"waits"])
    known = reader.consumer.partitions_for_topic
    hidden = topics.connection.named(TOPIC)
    monkeypatch.setattr(
        reader.consumer,
        "partitions_for_topic",
        lambda topic: None if topic == hidden else known(topic),
    )
    assert await reader.look() == NEVER
