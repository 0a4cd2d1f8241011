"""Records as they come from the broker: each is validated alone, and none fails its chunk."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.stock import CommitStock
from shared.kafka.connection import KafkaConnection
from shared.pipeline import Route
from shared.pipeline.consumer import GroupConsumer
from shared.telemetry import metrics
from shared.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.pipeline import Delivery, Outgoing, Refusal

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


async def no_handler(connection: Any, deliveries: Sequence[Delivery]) -> list[Outgoing | Refusal]:
    raise AssertionError


def consumer(*topics: str, group: str = "g") -> GroupConsumer:
    return GroupConsumer(
        Route(group, topics, no_handler),
        runner=None,  # type: ignore[arg-type]
        connection=KafkaConnection("-", topic_prefix="eu."),
        tracing=Tracing("stock", "stock-0", processors=()),
        on_fatal=lambda error: None,
    )


def record(
    value: bytes | None,
    *,
    topic: str = "stock.commands.v1",
    key: bytes | None = b"o-1",
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Any:
    return SimpleNamespace(
        topic=f"eu.{topic}", partition=3, offset=17, timestamp=1, key=key, value=value,
        headers=headers,
    )  # fmt: skip


GOOD = CommitStock(command_id="o-1:commit:do", order_id="o-1").to_bytes()


async def test_f4_a_bad_record_leaves_its_neighbours_alone() -> None:
    deliveries, refusals = await consumer("stock.commands.v1")._read(
        (record(GOOD), record(None), record(b"\xff"), record(GOOD))
    )
    assert [delivery.message_id for delivery in deliveries] == ["o-1:commit:do"] * 2
    assert [refusal.reason for refusal in refusals] == ["empty", "not_json"]
    received = refusals[1].received
    assert (received.topic, received.partition, received.offset, received.value) == (
        "stock.commands.v1", 3, 17, b"\xff",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "skipped"),
    [
        ("stock.commands.v1", False),
        ("stock.admin.v1", False),
        ("stock.replies.v1", True),
        ("orders.events.v1", True),
    ],
)
async def test_f5_f12_an_unknown_type_is_refused_among_commands_and_skipped_elsewhere(
    topic: str, skipped: bool
) -> None:
    group = f"unknown-{topic}"
    deliveries, refusals = await consumer(topic, group=group)._read(
        (record(b'{"type":"ReserveStockV9","orderId":"o-1"}', topic=topic),)
    )
    assert deliveries == []
    assert [refusal.reason for refusal in refusals] == ([] if skipped else ["unknown_type"])
    assert metrics.SKIPPED.labels(group)._value.get() == skipped


@pytest.mark.parametrize(("key", "counted"), [(b"o-1", 0), (b"o-2", 1), (None, 1), (b"", 1)])
async def test_f9_the_body_rules_and_a_counter_tells(key: bytes | None, counted: int) -> None:
    group = f"key-{key!r}"
    (delivery,), _ = await consumer("stock.commands.v1", group=group)._read(
        (record(GOOD, key=key),)
    )
    assert isinstance(delivery.message, CommitStock)
    assert delivery.message.order_id == "o-1"
    assert metrics.KEY_MISMATCHES.labels(group)._value.get() == counted


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ((("traceparent", TRACE),), True),
        ((("other", None), ("traceparent", TRACE)), True),
        ((), False),
        ((("traceparent", None),), False),
        ((("traceparent", b"\xff\xfe"),), False),
        ((("traceparent", TRACE.replace(b"00-0af", b"99-zzz")),), False),
        ((("traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01"),), False),
    ],
)
async def test_a_trace_goes_on_where_its_header_is_whole(
    headers: tuple[tuple[str, bytes | None], ...], kept: bool
) -> None:
    (delivery,), _ = await consumer("stock.commands.v1")._read((record(GOOD, headers=headers),))
    assert (delivery.traceparent == TRACE.decode()) is kept
    assert len(delivery.traceparent) == 55


def test_what_is_in_hand_is_told_by_its_first_offsets() -> None:
    reading = consumer("stock.commands.v1")
    assert reading.in_hand() == {}
    first, second, other = record(GOOD), record(GOOD), record(GOOD)
    second.offset, other.partition = 18, 4
    reading._in_hand = (first, second, other)
    assert {place.partition: at for place, at in reading.in_hand().items()} == {3: 17, 4: 17}


async def test_f8_reading_leaves_the_event_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two messages when each takes longer than `READ_AT_ONCE_S`."""
    monkeypatch.setattr("shared.pipeline.consumer.READ_AT_ONCE_S", 0.0)
    turns = 0

    async def heartbeat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(heartbeat())
    try:
        deliveries, _ = await consumer("stock.commands.v1")._read((record(GOOD),) * 50)
    finally:
        beating.cancel()
    assert len(deliveries) == 50
    assert turns >= 49
