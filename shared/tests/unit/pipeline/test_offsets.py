"""Offsets: what is done, for partitions that are still ours, and never more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from shared.pipeline.offsets import Offsets

FIRST = TopicPartition("t", 0)
SECOND = TopicPartition("t", 1)


def record(partition: int, offset: int) -> Any:
    return SimpleNamespace(topic="t", partition=partition, offset=offset)


class FakeConsumer:
    def __init__(self) -> None:
        self.assigned = {FIRST, SECOND}
        self.commits: list[dict[TopicPartition, int]] = []
        self.error: Exception | None = None

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        if not set(offsets) <= self.assigned:
            raise IllegalStateError  # aiokafka refuses the whole commit
        if self.error is not None:
            raise self.error
        self.commits.append(offsets)


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def offsets(consumer: FakeConsumer) -> Offsets:
    return Offsets("group", lambda: consumer)


async def test_the_next_offset_to_read_is_committed_for_each_partition(
    offsets: Offsets, consumer: FakeConsumer
) -> None:
    offsets.done([record(0, 4), record(1, 9), record(0, 5)])
    offsets.done([record(0, 6)])
    await offsets.flush()
    await offsets.flush()
    assert consumer.commits == [{FIRST: 7, SECOND: 10}]


async def test_a_partition_that_went_to_another_is_left_out(
    offsets: Offsets, consumer: FakeConsumer
) -> None:
    offsets.done([record(0, 4), record(1, 9)])
    consumer.assigned = {SECOND}
    await offsets.flush()
    assert consumer.commits == [{SECOND: 10}]
    consumer.assigned = {FIRST, SECOND}  # it came back, perhaps far behind another's commit
    await offsets.flush()
    assert consumer.commits == [{SECOND: 10}]


@pytest.mark.parametrize("error", [CommitFailedError(), OSError(), TimeoutError()])
async def test_a_failed_commit_is_tried_again_with_what_is_newest(
    offsets: Offsets, consumer: FakeConsumer, error: Exception
) -> None:
    offsets.done([record(0, 4), record(1, 9)])
    consumer.error = error
    await offsets.flush()
    consumer.error = None
    offsets.done([record(0, 5)])
    await offsets.flush()
    assert consumer.commits == [{FIRST: 6, SECOND: 10}]


async def test_what_is_done_while_a_commit_fails_is_not_turned_back(
    offsets: Offsets, consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def commit(_: dict[TopicPartition, int]) -> None:
        offsets.done([record(0, 8)])
        raise OSError

    offsets.done([record(0, 4)])
    with monkeypatch.context() as patch:
        patch.setattr(consumer, "commit", commit)
        await offsets.flush()
    await offsets.flush()
    assert consumer.commits == [{FIRST: 9}]


async def test_a_commit_that_hangs_is_given_up(
    offsets: Offsets, consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pipeline.offsets.COMMIT_TIMEOUT_S", 0.01)

    async def hang(_: dict[TopicPartition, int]) -> None:
        await asyncio.Event().wait()

    offsets.done([record(0, 4)])
    with monkeypatch.context() as patch:
        patch.setattr(consumer, "commit", hang)
        await offsets.flush()
    await offsets.flush()
    assert consumer.commits == [{FIRST: 5}]


async def test_nothing_is_committed_before_the_start_or_after_forgetting(
    offsets: Offsets, consumer: FakeConsumer
) -> None:
    await Offsets("group", lambda: None).flush()
    offsets.done([record(0, 4)])
    offsets.forget()
    await offsets.flush()
    assert consumer.commits == []
