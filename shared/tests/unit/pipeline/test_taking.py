"""What a poll takes: what is there, within the bounds of a chunk, and nothing while one runs."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from faststream.kafka import KafkaBroker

from shared.kafka.connection import KafkaConnection
from shared.pipeline import Route
from shared.pipeline.consumer import GroupConsumer
from shared.pipeline.subscriber import PatientSubscriber
from shared.settings import ServiceSettings
from shared.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.pipeline import Delivery, Outgoing, Refusal

TOPIC = "stock.commands.v1"
FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class FakeConsumer:
    """Gives what was put into it, of partitions that are assigned and not paused."""

    def __init__(self, *assigned: TopicPartition) -> None:
        self.assigned = set(assigned)
        self.stopped: set[TopicPartition] = set()
        self.there: dict[TopicPartition, list[Any]] = {}
        self.errors: dict[int, Exception] = {}
        self.polls = 0
        self.asked: list[int] = []

    def put(self, place: TopicPartition, *sizes: int, headers: int = 0) -> None:
        records = self.there.setdefault(place, [])
        for size in sizes:
            records.append(
                SimpleNamespace(
                    topic=place.topic, partition=place.partition, offset=len(records),
                    key=b"k", value=b"v" * (size - 1), headers=(("h", b"h" * headers), ("n", None)),
                )
            )  # fmt: skip

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def paused(self) -> set[TopicPartition]:
        return self.stopped & self.assigned

    def pause(self, *places: TopicPartition) -> None:
        self.stopped.update(places)

    def resume(self, *places: TopicPartition) -> None:
        self.stopped.difference_update(places)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, Any]:
        self.polls += 1
        self.asked.append(max_records)
        if self.polls in self.errors:
            raise self.errors[self.polls]
        found = {}
        for place in sorted(self.assigned - self.stopped):
            there = self.there.get(place, [])
            if max_records and there:
                found[place], self.there[place] = there[:max_records], there[max_records:]
                max_records -= len(found[place])
        return found


async def no_handler(connection: Any, deliveries: Sequence[Delivery]) -> list[Outgoing | Refusal]:
    raise AssertionError


def subscriber(monkeypatch: pytest.MonkeyPatch, **limits: float) -> PatientSubscriber:
    for name, value in limits.items():
        monkeypatch.setenv(name.upper(), str(value))
    settings = ServiceSettings(
        kafka_bootstrap_servers="-", database_url="-", instance_id="stock-0",  # type: ignore[arg-type]
    )  # fmt: skip
    group = GroupConsumer(
        Route("g", (TOPIC,), no_handler),
        runner=None,  # type: ignore[arg-type]
        connection=KafkaConnection("-"),
        tracing=Tracing("stock", "stock-0", processors=()),
        on_fatal=lambda error: None,
    )
    group.subscribe(KafkaBroker("-"), settings)
    assert isinstance(group._subscriber, PatientSubscriber)
    return group._subscriber


async def chunks(reading: PatientSubscriber, consumer: FakeConsumer) -> list[list[tuple[int, int]]]:
    """Partition and offset of what each poll takes, until one takes nothing."""
    taken = []
    while records := await reading.get_msg(consumer):
        taken.append([(record.partition, record.offset) for record in records])
    return taken


async def test_a_chunk_is_bounded_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = FakeConsumer(FIRST, SECOND)
    consumer.put(FIRST, *[100] * 50)
    consumer.put(SECOND, *[100] * 30)
    taken = await chunks(subscriber(monkeypatch, chunk_messages=35), consumer)
    assert [len(chunk) for chunk in taken] == [35, 35, 10]
    assert list(chain(*taken)) == [(0, n) for n in range(50)] + [(1, n) for n in range(30)]


@pytest.mark.parametrize("in_headers", [False, True])
async def test_f8_a_chunk_is_bounded_in_bytes_and_the_rest_stays_in_order(
    monkeypatch: pytest.MonkeyPatch, in_headers: bool
) -> None:
    consumer = FakeConsumer(FIRST, SECOND)
    size, headers = (1_000, 249_000) if in_headers else (250_000, 0)
    consumer.put(FIRST, *[size] * 50, headers=headers)
    consumer.put(SECOND, *[size] * 30, headers=headers)
    taken = await chunks(subscriber(monkeypatch, chunk_bytes=1_000_000), consumer)
    assert [len(chunk) for chunk in taken] == [4] * 20
    assert list(chain(*taken)) == [(0, n) for n in range(50)] + [(1, n) for n in range(30)]


async def test_f8_small_messages_first_do_not_let_large_ones_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = FakeConsumer(FIRST)
    consumer.put(FIRST, *[100] * 40, *[262_144] * 100)
    (first, *_) = await chunks(subscriber(monkeypatch), consumer)
    assert 40 < len(first) <= 40 + 16


async def test_a_message_larger_than_a_chunk_is_taken_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = FakeConsumer(FIRST)
    consumer.put(FIRST, *[5_000] * 3)
    taken = await chunks(subscriber(monkeypatch, chunk_bytes=1_000), consumer)
    assert taken == [[(0, 0)], [(0, 1)], [(0, 2)]]


async def test_an_error_waits_until_what_was_taken_is_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = FakeConsumer(FIRST)
    consumer.put(FIRST, *[100] * 20)
    consumer.errors[2] = KafkaConnectionError()
    reading = subscriber(monkeypatch)
    assert len(await reading.get_msg(consumer)) == 16  # type: ignore[arg-type]
    assert consumer.paused() == {FIRST}
    with pytest.raises(KafkaConnectionError):
        await reading.get_msg(consumer)  # type: ignore[arg-type]
    assert await chunks(reading, consumer) == [[(0, n) for n in range(16, 20)]]


async def test_nothing_is_fetched_while_a_chunk_is_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = FakeConsumer(FIRST, SECOND)
    consumer.put(FIRST, 100)
    reading = subscriber(monkeypatch)
    for _ in range(2):
        assert len(await reading.get_msg(consumer)) == 1  # type: ignore[arg-type]
        assert consumer.paused() == {FIRST, SECOND}
        consumer.put(SECOND, 100)


async def test_what_a_rebalance_brings_and_leaves_is_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = FakeConsumer(FIRST)
    reading = subscriber(monkeypatch)
    consumer.put(FIRST, 100)
    assert await chunks(reading, consumer) == [[(0, 0)]]
    consumer.assigned = {FIRST, SECOND}
    consumer.put(FIRST, 100)
    consumer.put(SECOND, 100)
    assert await chunks(reading, consumer) == [[(0, 0), (1, 0)]]
    consumer.assigned = {SECOND}
    consumer.put(SECOND, 100)
    assert await chunks(reading, consumer) == [[(1, 0)]]
    consumer.assigned = {FIRST, SECOND}
    consumer.put(FIRST, 100)
    assert await chunks(reading, consumer) == [[(0, 0)]]
