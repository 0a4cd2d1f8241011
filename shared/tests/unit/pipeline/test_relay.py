"""The relay: in order, until it is acknowledged, within its memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiokafka.errors import KafkaConnectionError

from shared import backoff
from shared.pipeline.outbox import Chunk, Row
from shared.pipeline.relay import MEMORY_BYTES, MESSAGES_AT_ONCE, Relay
from shared.testing.signals import Gate, Signal, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from shared.kafka.publisher import Record

AT = datetime(2026, 1, 31, tzinfo=UTC)


def chunk(chunk_id: int, messages: int = 1, value: bytes | None = b"{}") -> Chunk:
    rows = [
        Row("stock.replies.v1", b"o", "T", f"{chunk_id}.{at}", value, "") for at in range(messages)
    ]
    return Chunk(chunk_id, AT, rows)


class FakePublisher:
    def __init__(self) -> None:
        self.published: Signal[list[str]] = Signal("published")
        self.errors: list[Exception] = []
        self.gate: Gate | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        if self.gate is not None:
            await self.gate.stop()
        if self.errors:
            raise self.errors.pop(0)
        self.published.fire([dict(record.headers)["ce_id"].decode() for record in records])


class FakePool:
    """Pool, connection and statement at once; notes which chunks were marked."""

    def __init__(self) -> None:
        self.marked: Signal[list[int]] = Signal("marked")
        self.errors: list[Exception] = []
        self.expired = 0

    def acquire(self, **_: float) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def execute(self, _: str, chunk_ids: list[int]) -> str:
        if self.errors:
            raise self.errors.pop(0)
        self.marked.fire(chunk_ids)
        return f"UPDATE {len(chunk_ids)}"

    async def expire_connections(self) -> None:
        self.expired += 1


class Bench:
    """A relay that runs between a fake broker and a fake database."""

    def __init__(self, memory_messages: int, memory_bytes: int) -> None:
        self.pool = FakePool()
        self.publisher = FakePublisher()
        self.relay = Relay(
            "stock-0", "stock", self.pool, self.publisher,  # type: ignore[arg-type]
            memory_messages=memory_messages, memory_bytes=memory_bytes,
        )  # fmt: skip


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[int], Bench]]:
    monkeypatch.setattr(backoff, "delay_s", lambda _: 0.0)
    tasks: list[asyncio.Task[Any]] = []

    def start(memory_messages: int, memory_bytes: int = MEMORY_BYTES) -> Bench:
        made = Bench(memory_messages, memory_bytes)
        tasks.append(asyncio.create_task(made.relay.publish_forever()))
        tasks.append(asyncio.create_task(made.relay.mark_forever()))
        return made

    yield start
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_chunks_are_published_in_order_and_marked(
    bench: Callable[[int], Bench],
) -> None:
    made = bench(100)
    made.relay.submit([chunk(1, 2), chunk(2)])
    made.relay.submit([chunk(3)])
    await asyncio.wait_for(made.relay.drain(), 5)
    sent = [name for batch in made.publisher.published.values for name in batch]
    assert sent == ["1.0", "1.1", "2.0", "3.0"]
    assert sorted(itertools.chain(*made.pool.marked.values)) == [1, 2, 3]
    assert made.relay.in_memory() == []


async def test_f41_what_the_broker_does_not_take_is_sent_again_in_order(
    bench: Callable[[int], Bench],
) -> None:
    made = bench(100)
    made.publisher.errors = [KafkaConnectionError(), TimeoutError()]
    made.publisher.gate = Gate("publish")
    made.relay.submit([chunk(1)])
    await made.publisher.gate.reached()
    made.relay.submit([chunk(2)])  # while the first is under way
    made.publisher.gate.open()
    await asyncio.wait_for(made.relay.drain(), 5)
    sent = [name for batch in made.publisher.published.values for name in batch]
    assert sent == ["1.0", "2.0"]
    assert made.publisher.errors == []


async def test_a_batch_is_bounded(bench: Callable[[int], Bench]) -> None:
    made = bench(10 * MESSAGES_AT_ONCE)
    made.relay.submit([chunk(number, MESSAGES_AT_ONCE // 2) for number in range(5)])
    await asyncio.wait_for(made.relay.drain(), 5)
    assert [len(batch) for batch in made.publisher.published.values] == [
        MESSAGES_AT_ONCE, MESSAGES_AT_ONCE, MESSAGES_AT_ONCE // 2,
    ]  # fmt: skip


async def test_f37_what_memory_does_not_hold_is_left_to_the_sweeper(
    bench: Callable[[int], Bench],
) -> None:
    made = bench(10)
    made.publisher.gate = Gate("publish")
    made.relay.submit([chunk(1, 6)])
    await made.publisher.gate.reached()
    made.relay.submit([chunk(2, 4), chunk(3, 4), chunk(4, 1)])
    # the first is being published and counts still; a chunk larger than all memory must go too
    assert made.relay.in_memory() == [1, 2]
    made.publisher.gate.open()
    await asyncio.wait_for(made.relay.drain(), 5)
    made.relay.submit([chunk(5, 11)])
    assert made.relay.in_memory() == [5]
    await asyncio.wait_for(made.relay.drain(), 5)


async def test_f37_memory_is_bounded_in_bytes_too(bench: Callable[..., Bench]) -> None:
    made = bench(100, 1_000)
    for first in (1, 11):
        made.publisher.gate = Gate("publish")
        made.relay.submit([chunk(first, 2, b"x" * 249)])
        await made.publisher.gate.reached()
        made.relay.submit(
            [chunk(first + 1, 1, b"x" * 399), chunk(first + 2, 1, b"x" * 100),
             chunk(first + 3, 1, b"x" * 99), chunk(first + 4, 0)]
        )  # fmt: skip
        # full to the byte, the one that is being published included
        assert made.relay.in_memory() == [first, first + 1, first + 3, first + 4]
        made.publisher.gate.open()
        await asyncio.wait_for(made.relay.drain(), 5)
    made.publisher.gate = None
    made.relay.submit([chunk(21, 1, b"x" * 5_000), chunk(22, 1, None)])
    assert made.relay.in_memory() == [21]  # nothing else would ever take it
    await asyncio.wait_for(made.relay.drain(), 5)


async def test_chunks_published_soon_after_each_other_are_marked_together(
    bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pipeline.relay.MARK_INTERVAL_S", 0.5)
    made = bench(100)
    for number in (1, 2, 3):
        made.relay.submit([chunk(number)])
        await eventually(lambda count=number: len(made.publisher.published.values) == count)
    await asyncio.wait_for(made.relay.drain(), 5)
    assert made.pool.marked.values == [[1, 2, 3]]


async def test_f46_marking_outlives_the_database(bench: Callable[[int], Bench]) -> None:
    made = bench(100)
    made.pool.errors = [ConnectionResetError(), ConnectionRefusedError()]
    made.relay.submit([chunk(1), chunk(2)])
    await asyncio.wait_for(made.relay.drain(), 5)
    assert sorted(itertools.chain(*made.pool.marked.values)) == [1, 2]
    assert made.pool.expired == 2
    assert len(made.publisher.published.values) == 1
