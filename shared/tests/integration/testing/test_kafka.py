"""Topics of a test: apart from others', published to, read to the end, waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer

from shared.contracts.orders import CancelOrder
from shared.testing.kafka import Record, Topics, topics_of
from shared.testing.signals import ConditionNotMet

if TYPE_CHECKING:
    from shared.testing.proxy import Proxy

COMMANDS = "orders.commands.v1"
REQUESTS = "order-orchestrator-requests"


def cancel(number: int) -> CancelOrder:
    return CancelOrder(order_id=f"o-{number}", user_id="user_1")


async def test_what_is_published_is_read_in_order_per_key(topics: Topics) -> None:
    await topics.create(COMMANDS)
    await topics.publish(COMMANDS, [cancel(number % 50) for number in range(5_000)])
    records = await topics.read(COMMANDS)
    assert len(records) == 5_000
    assert {record.key for record in records} == {f"o-{number}" for number in range(50)}
    assert len({record.partition for record in records}) == 12
    assert len({(record.partition, record.offset) for record in records}) == 5_000
    assert records[0].message == cancel(int(records[0].json["orderId"][2:]))
    # what comes later is read, too, and nothing twice
    await topics.publish(COMMANDS, [cancel(1)])
    assert len(await topics.read(COMMANDS)) == 5_001


async def test_everything_can_be_published(topics: Topics) -> None:
    await topics.create(COMMANDS)
    await topics.publish(
        COMMANDS,
        [
            {"type": "CancelOrder", "orderId": "o-7", "userId": "user_1"},
            b"\xff not json",
            b"x" * 700_000,
            None,
            Record(b"{}", key="else", headers={"traceparent": "00-1", "odd": None}),
        ],
    )
    by_value = {record.value: record for record in await topics.read(COMMANDS)}
    assert by_value[b"\xff not json"].key is None
    assert by_value[b"x" * 700_000].offset >= 0
    assert by_value[None].value is None
    assert by_value[b"{}"].key == "else"
    assert by_value[b"{}"].headers == {"traceparent": "00-1", "odd": ""}
    (order,) = [record for record in by_value.values() if record.key == "o-7"]
    assert order.json["userId"] == "user_1"


async def test_waiting_finds_what_lies_there_and_what_comes(topics: Topics) -> None:
    await topics.create(COMMANDS)
    await topics.publish(COMMANDS, [cancel(1), cancel(2)])
    found = await topics.message(COMMANDS, lambda message: message.order_id == "o-2")
    assert found == cancel(2)
    assert len(await topics.wait_for(COMMANDS, count=2)) == 2
    with pytest.raises(ConditionNotMet, match="0 of 2 matched") as failure:
        await topics.wait_for(COMMANDS, lambda record: record.key == "o-9", within_s=0.5)
    assert "o-2" in str(failure.value)


async def test_prefixes_keep_tests_apart(topics: Topics) -> None:
    other = Topics(
        type(topics.connection)(topics.connection.bootstrap_servers, topic_prefix="another.")
    )
    try:
        await other.create(COMMANDS)
        await topics.create(COMMANDS)
        await topics.publish(COMMANDS, [cancel(1)])
        assert await other.read(COMMANDS) == []
    finally:
        await other.close()
        await other.delete()


async def test_lag_is_what_a_group_has_not_committed(topics: Topics) -> None:
    await topics.create(COMMANDS)
    assert await topics.lag(REQUESTS) == 0
    await topics.publish(COMMANDS, [cancel(number) for number in range(30)])
    assert await topics.lag(REQUESTS) == 30
    with pytest.raises(ConditionNotMet, match="'order-orchestrator-requests': 30"):
        await topics.wait_drained(REQUESTS, within_s=0.5)

    consumer = AIOKafkaConsumer(
        topics.connection.named(COMMANDS),
        **topics.connection.client_options(),
        group_id=topics.connection.named(REQUESTS),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        read = 0
        while read < 30:
            batches = await consumer.getmany(timeout_ms=500)
            read += sum(map(len, batches.values()))
        assert await topics.lag(REQUESTS) == 30
        await consumer.commit()
    finally:
        await consumer.stop()
    await topics.wait_drained(REQUESTS)


async def test_clients_behind_the_proxy_stay_behind_it(topics: Topics, kafka_proxy: Proxy) -> None:
    await topics.create(COMMANDS)
    behind = Topics(topics.through(kafka_proxy.address))
    try:
        await behind.publish(COMMANDS, [cancel(1)])
        passed = sum(kafka_proxy.stats.passed_bytes.values())
        await behind.publish(COMMANDS, [cancel(number) for number in range(1_000)])
        assert sum(kafka_proxy.stats.passed_bytes.values()) - passed > 20_000
        # aiokafka makes a new connection of what was cut
        assert kafka_proxy.cut() >= 1
        await behind.publish(COMMANDS, [cancel(2)])
    finally:
        await behind.close()
    assert len(await topics.read(COMMANDS)) >= 1_002


def test_topics_of_a_service_are_what_it_touches() -> None:
    assert topics_of("stock") == {
        "stock.commands.v1",
        "stock.replies.v1",
        "stock.admin.v1",
        "stock.events.v1",
        "stock.levels.v1",
        "stock.dlq.v1",
        "stock-requests.dlq.v1",
    }
