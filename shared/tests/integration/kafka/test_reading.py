"""Topics are read from outside of every group, up to where they ended when they were asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer

from shared.kafka import reading
from shared.kafka.reading import SilentBrokerError, open_groups, open_reader, partitions_of
from shared.testing.kafka import Record

if TYPE_CHECKING:
    from shared.testing.kafka import Topics
    from shared.testing.proxy import Proxy

HOUR_AGO_MS = time.time_ns() // 1_000_000 - 3_600_000
COMMANDS, DEAD = "stock.commands.v1", "stock.dlq.v1"


def numbered(*numbers: int) -> list[Record]:
    """Of one key, so that they lie in one partition in their order, a second apart."""
    return [
        Record(b"%d" % number, "o-1", timestamp_ms=HOUR_AGO_MS + number * 1_000)
        for number in numbers
    ]


async def test_what_comes_meanwhile_is_not_read(topics: Topics) -> None:
    await topics.create(COMMANDS)
    await topics.publish(COMMANDS, numbered(*range(1_000)))
    async with open_reader(topics.connection) as reader:
        spans = await reader.spans(await partitions_of(topics.connection, [COMMANDS]))
        await topics.publish(COMMANDS, numbered(*range(1_000, 1_010)))
        found: list[Any] = []
        async for records in reader.read(spans):
            found += records
    assert [int(record.value) for record in found] == list(range(1_000))


async def test_from_a_time_or_a_place_on(topics: Topics) -> None:
    await topics.create(COMMANDS)
    await topics.publish(COMMANDS, numbered(*range(10)))
    partitions = await partitions_of(topics.connection, [COMMANDS])

    async with open_reader(topics.connection) as reader:

        async def values(spans: reading.Spans) -> list[int]:
            return [int(one.value or b"") async for some in reader.read(spans) for one in some]

        assert await values(await reader.spans(partitions, HOUR_AGO_MS + 7_000)) == [7, 8, 9]
        assert await values(await reader.spans(partitions, HOUR_AGO_MS + 3_000_000)) == []
        (place,) = [one for one, span in (await reader.spans(partitions)).items() if span]
        assert await values({place: range(3, 5)}) == [3, 4]
        assert (await reader.ends(partitions))[place] == 10


async def test_a_letter_of_two_megabytes_is_read(topics: Topics) -> None:
    await topics.create(DEAD)
    large = b"x" * 2_000_000
    await topics.publish(DEAD, [*numbered(1), Record(large, "o-1"), *numbered(2)])
    found = [
        record.value
        async for records in reading.read_to_end(topics.connection, [DEAD])
        for record in records
    ]
    assert found == [b"1", large, b"2"]


async def test_groups_are_looked_at_again_over_the_same_connections(topics: Topics) -> None:
    group, other = "stock", "stock-dead-letters"
    await topics.create(COMMANDS, DEAD)
    async with open_groups(topics.connection, {group: [COMMANDS], other: [DEAD]}) as groups:
        assert await groups.lags() == {group: 0, other: 0}
        await topics.publish(COMMANDS, numbered(1, 2, 3))
        assert await groups.lags() == {group: 3, other: 0}
        (place,) = [one for one, found in (await groups.standings())[group].items() if found.end]
        consumer = AIOKafkaConsumer(
            **topics.connection.client_options(),
            group_id=topics.connection.named(group),
            enable_auto_commit=False,
        )
        consumer.assign([place])
        async with consumer:
            await consumer.commit({place: 2})
        assert await groups.lags() == {group: 1, other: 0}


async def test_a_broker_that_falls_silent_is_told_as_such(
    topics: Topics, kafka_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as a time-out, which is an error of whatever else was asked."""
    monkeypatch.setattr(reading, "SILENCE_S", 1.0)
    await topics.create(COMMANDS)
    await topics.publish(COMMANDS, numbered(1))
    connection = topics.through(kafka_proxy.address)
    async with open_reader(connection) as reader:
        spans = await reader.spans(await partitions_of(connection, [COMMANDS]))
        kafka_proxy.half_open()
        with pytest.raises(SilentBrokerError, match=f"{kafka_proxy.address} says nothing for 1 s"):
            async for _ in reader.read(spans):
                pass
        with pytest.raises(SilentBrokerError):
            await reader.spans(list(spans))
        await kafka_proxy.heal()
