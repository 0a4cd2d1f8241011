"""Publishing to a real broker: order, keys, sizes, and a producer that replaces itself."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.contracts.topics import TOPICS
from shared.kafka.publisher import Publisher, Record
from shared.kafka.topics import TopicError, admin_client, create_topics, verify_topics
from shared.pipeline.dead_letters import KEY_BYTES, VALUE_BYTES
from shared.telemetry import metrics
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.kafka import Topics
    from shared.testing.proxy import Proxy

REPLIES = "stock.replies.v1"
LETTERS = "stock.dlq.v1"


def record(
    key: bytes | None, value: bytes | None, *, topic: str = REPLIES, name: str = "x"
) -> Record:
    return Record(topic, key, value, [("ce_id", name.encode())], 1_700_000_000_000)


@pytest.fixture
async def publisher(topics: Topics) -> AsyncIterator[Publisher]:
    await topics.create(REPLIES, LETTERS)
    publisher = Publisher(topics.connection, "test", timeout_s=10.0)
    yield publisher
    await publisher.close()


async def test_each_record_keeps_its_key_headers_and_place_in_the_order_of_its_key(
    publisher: Publisher, topics: Topics
) -> None:
    sent = [record(b"o-%d" % (n % 20), b"%d" % n, name=f"id-{n}") for n in range(600)]
    sent += [record(None, None, topic=LETTERS), record(b"\xff", b"", topic=LETTERS)]
    await publisher.publish(sent)
    found = await topics.read(REPLIES)
    assert len(found) == 600
    assert len({one.partition for one in found}) > 1
    for key in range(20):
        own = [one for one in found if one.key == f"o-{key}"]
        assert [int(one.value or b"") for one in own] == list(range(key, 600, 20))
        assert [dict(one.headers or {})["ce_id"] for one in own] == [
            f"id-{n}" for n in range(key, 600, 20)
        ]
    letters = await topics.read(LETTERS)
    assert {(one.key, one.value) for one in letters} == {(None, None), ("\ufffd", b"")}


async def test_f8_the_largest_dead_letter_fits_into_its_topic(
    publisher: Publisher, topics: Topics
) -> None:
    big = record(b"k" * KEY_BYTES, b"x" * VALUE_BYTES, topic=LETTERS)
    big.headers.append(("dlq-error", b"e" * 4_000))
    await publisher.publish([big, record(b"small", b"s", topic=LETTERS), big])
    assert sorted(len(one.value or b"") for one in await topics.read(LETTERS)) == [
        1, VALUE_BYTES, VALUE_BYTES,
    ]  # fmt: skip


async def test_f43_a_producer_is_replaced_after_an_error_that_it_can_not_mend(
    publisher: Publisher, topics: Topics
) -> None:
    before = metrics.RELAY_REBUILDS._value.get()
    await publisher.publish([record(b"a", b"1")])
    with pytest.raises(MessageSizeTooLargeError):
        await publisher.publish([record(b"a", b"x" * 2_000_000)])  # over the topic's limit
    await publisher.publish([record(b"a", b"2")])
    assert metrics.RELAY_REBUILDS._value.get() == before + 1
    assert [one.value for one in await topics.read(REPLIES)] == [b"1", b"2"]


async def test_f41_f43_publishing_goes_on_after_the_broker_was_out_of_reach(
    topics: Topics, kafka_proxy: Proxy
) -> None:
    """What timed out may have been delivered: the caller publishes it again."""
    await topics.create(REPLIES)
    publisher = Publisher(topics.through(kafka_proxy.address), "test", timeout_s=1.0)
    try:
        await publisher.publish([record(b"a", b"1")])
        kafka_proxy.half_open()
        with pytest.raises((KafkaError, OSError)):
            await publisher.publish([record(b"a", b"2")])
        await kafka_proxy.heal()

        async def publish() -> bool:
            await publisher.publish([record(b"a", b"2")])
            return True

        await eventually(publish, within_s=20)
    finally:
        await publisher.close()
    values = [one.value for one in await topics.read(REPLIES)]
    assert values[0] == b"1"
    assert set(values[1:]) == {b"2"}


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
async def test_f41_a_producer_that_could_not_start_is_stopped(
    topics: Topics, kafka_proxy: Proxy, silent: bool
) -> None:
    """Where it isn't, the loop is told so as soon as the producer is collected."""
    gc.collect()  # what other tests left must not be told here
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    publisher = Publisher(topics.through(kafka_proxy.address), "test", timeout_s=1.0)
    if silent:
        kafka_proxy.half_open()
    else:
        await kafka_proxy.refuse()
    try:
        for _ in range(2):
            with pytest.raises((KafkaError, OSError)):
                await publisher.publish([record(b"a", b"1")])
            gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
        await publisher.close()
    assert [context["message"] for context in told] == []


async def test_f42_topics_are_verified_by_name_and_partitions(topics: Topics) -> None:
    assert await create_topics(topics.connection, [TOPICS[REPLIES]]) == [
        topics.connection.named(REPLIES)
    ]
    assert await create_topics(topics.connection, [TOPICS[REPLIES]]) == []
    await verify_topics(topics.connection, [REPLIES])
    with pytest.raises(TopicError, match=r"stock.dlq.v1 is missing; create it with: orderctl"):
        await verify_topics(topics.connection, [REPLIES, LETTERS], within_s=0.1)
    async with admin_client(topics.connection) as client:
        await client.create_topics([NewTopic(topics.connection.named(LETTERS), 3, 1)])
    await eventually(lambda: topics.read(LETTERS), accept=lambda found: found == [])
    with pytest.raises(TopicError, match=r"stock.dlq.v1 has 3 partitions and needs 12"):
        await verify_topics(topics.connection, [REPLIES, LETTERS], within_s=0.1)
