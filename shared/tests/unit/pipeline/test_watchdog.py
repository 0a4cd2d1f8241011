"""A consumer that hangs raises nothing: what tells is lag without progress."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from shared.pipeline.watchdog import Position, Watchdog, stalled
from shared.telemetry import metrics

FIRST = TopicPartition("stock.commands.v1", 0)
SECOND = TopicPartition("stock.commands.v1", 11)


def test_f44_stalled_means_lag_and_no_progress() -> None:
    seen = {FIRST: Position(10, since_s=100.0), SECOND: Position(10, since_s=100.0)}
    # both stand still since 60 s, one of them has nothing to do
    assert stalled(seen, {FIRST: 11, SECOND: 10}, now_s=160.0, after_s=60.0) == [
        "stock.commands.v1/0"
    ]
    assert stalled(seen, {FIRST: 11, SECOND: 11}, now_s=159.9, after_s=60.0) == []
    assert stalled(seen, {}, now_s=1_000.0, after_s=60.0) == []


class FakeConsumer:
    """The few questions that the watchdog asks of aiokafka."""

    def __init__(self) -> None:
        self.positions = {FIRST: 0}
        self.ends = {FIRST: 0}
        self.error: Exception | None = None

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place]

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.error is not None:
            raise self.error
        return {place: self.ends[place] for place in places}


class FakeGroup:
    """The few things that the watchdog knows of a group's consumer."""

    def __init__(self) -> None:
        self.route = SimpleNamespace(group="watched")
        self.joined = True
        self.kafka: FakeConsumer | None = FakeConsumer()
        self.first_in_hand: dict[TopicPartition, int] = {}

    def in_hand(self) -> dict[TopicPartition, int]:
        return self.first_in_hand

    def consumer(self) -> Any:
        return self.kafka


@pytest.fixture
def group() -> FakeGroup:
    return FakeGroup()


@pytest.fixture
def watchdog(group: FakeGroup) -> Watchdog:
    # at once: a test needn't wait for time to pass between two looks
    return Watchdog(group, stalled_after_s=0.0)  # type: ignore[arg-type]


def lag(place: TopicPartition) -> float:
    labelled = metrics.LAG.labels("watched", place.topic, str(place.partition))
    return float(labelled._value.get())


async def test_f44_who_stands_still_is_named(group: FakeGroup, watchdog: Watchdog) -> None:
    assert group.kafka is not None
    await watchdog.run_once()
    assert watchdog.problem is None
    group.kafka.ends[FIRST] = 5
    await watchdog.run_once()
    assert watchdog.problem == "no progress for 0 s on stock.commands.v1/0"
    assert lag(FIRST) == 5
    group.kafka.positions[FIRST] = 5
    await watchdog.run_once()
    assert watchdog.problem is None
    assert lag(FIRST) == 0


async def test_f44_a_chunk_that_is_never_done_is_no_progress(
    group: FakeGroup, watchdog: Watchdog
) -> None:
    """Its messages were handed out, so the broker's position has passed them."""
    assert group.kafka is not None
    group.kafka.positions[FIRST] = group.kafka.ends[FIRST] = 7
    group.first_in_hand = {FIRST: 4}
    await watchdog.run_once()
    assert lag(FIRST) == 3
    assert watchdog.problem == "no progress for 0 s on stock.commands.v1/0"
    group.first_in_hand = {}
    await watchdog.run_once()
    assert watchdog.problem is None


async def test_a_partition_that_is_gone_leaves_no_metric(
    group: FakeGroup, watchdog: Watchdog
) -> None:
    assert group.kafka is not None
    await watchdog.run_once()
    group.kafka.positions, group.kafka.ends = {SECOND: 0}, {SECOND: 2}
    await watchdog.run_once()
    labels = [sample.labels for sample in next(iter(metrics.LAG.collect())).samples]
    mine = [one["partition"] for one in labels if one["group"] == "watched"]
    assert mine == ["11"]


async def test_what_keeps_a_group_from_reading_is_said(
    group: FakeGroup, watchdog: Watchdog
) -> None:
    assert group.kafka is not None
    group.joined = False
    assert watchdog.problem == "not joined its group yet"
    group.joined = True
    assert watchdog.problem is None
    group.kafka.error = KafkaConnectionError()
    with pytest.raises(KafkaConnectionError):
        await watchdog.run_once()
    assert watchdog.problem == "the broker doesn't answer: KafkaConnectionError"
    group.kafka = None
    await watchdog.run_once()
    assert watchdog.problem == "not started"


async def test_a_broker_that_hangs_is_given_up(
    group: FakeGroup, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pipeline.watchdog.PROBE_TIMEOUT_S", 0.01)

    async def never(_: object) -> Any:
        await asyncio.Event().wait()

    assert group.kafka is not None
    monkeypatch.setattr(group.kafka, "end_offsets", never)
    with pytest.raises(TimeoutError):
        await watchdog.run_once()
    assert watchdog.problem == "the broker doesn't answer: TimeoutError"
