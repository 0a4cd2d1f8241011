"""An instance of stock when it is told to stop, and when what it stands on gives way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from shared.contracts.stock import StockReserved
from shared.kafka.topics import admin_client
from shared.settings import ServiceSettings
from shared.testing.builders import new_id, reserve_stock
from shared.testing.kafka import Record
from shared.testing.signals import eventually, stays

if TYPE_CHECKING:
    from local_stack import Stack
    from shared.contracts.stock import ReserveStock
    from shared.testing.processes import Instance

COMMANDS = "stock.commands.v1"
LETTERS = "stock.dlq.v1"


def reserves(lamp: str, count: int) -> list[ReserveStock]:
    return [reserve_stock(new_id("o"), items={lamp: 1}) for _ in range(count)]


@pytest.fixture(scope="module", autouse=True)
async def misfits(shop: Any) -> list[Instance]:
    """Instances that can't start. It takes them a while to be sure, so they begin at once."""
    prefix = f"{shop.topics.prefix}bare."
    async with admin_client(shop.topics.connection) as client:
        await client.create_topics([NewTopic(f"{prefix}{COMMANDS}", 3, 1)])
    found: list[Instance] = [
        shop.instance(5, KAFKA_TOPIC_PREFIX=prefix),
        # where nobody has migrated anything
        shop.instance(6, DATABASE_URL=shop.database.server.dsn("stock", "postgres")),
        shop.instance(7, OUTBOX_LEASE_S="1"),
    ]
    for instance in found:
        instance.spawn()
    return found


async def test_f43_an_offset_that_does_not_exist_means_from_the_beginning(shop: Any) -> None:
    """Before the group's first member, somebody committed offsets that lie past the end."""
    group = shop.topics.connection.named("stock")
    topic = shop.topics.connection.named(COMMANDS)
    consumer = AIOKafkaConsumer(
        **shop.topics.connection.client_options(), group_id=group, enable_auto_commit=False
    )
    places = [TopicPartition(topic, number) for number in range(12)]
    await consumer.start()
    consumer.assign(places)
    await consumer.commit(dict.fromkeys(places, 1_000_000))
    await consumer.stop()
    commands = reserves("P404", 30)
    await shop.publish(*commands)
    await shop.start(0)
    await shop.verdicts(commands)
    await shop.check()


async def test_f40_told_to_stop_in_mid_chunk_it_finishes_commits_and_ends(shop: Any) -> None:
    await shop.start(0)
    (lamp,) = await shop.put(100)
    commands = reserves(lamp, 40)
    instance = shop.instance(0)
    async with shop.lock_held(lamp):
        await shop.publish(*commands)
        await shop.waits_for_lock()
        ending = asyncio.create_task(instance.terminate())
        # the chunk in hand keeps it: it does not give up what it has begun
        await stays(lambda: instance.is_running, for_s=0.5)
    assert await ending == 0
    # what it finished is published, marked and committed: the next start does nothing twice
    lag = await shop.topics.lag("stock")
    async with shop.database.connection("stock") as connection:
        decided = await connection.fetchval(
            "SELECT count(*) FROM reservation WHERE order_id = ANY ($1)",
            [command.order_id for command in commands],
        )
        unpublished = await connection.fetchval(
            "SELECT count(*) FROM outbox WHERE published_at IS NULL"
        )
    assert decided > 0
    assert decided + lag == len(commands)
    assert unpublished == 0
    await shop.start(0)
    assert all(isinstance(one, StockReserved) for one in await shop.verdicts(commands))
    assert await shop.metric("inbox_duplicates_total", group="stock") == 0
    await shop.check()


async def test_f40_a_chunk_that_can_not_end_does_not_keep_the_process(shop: Any) -> None:
    assert ServiceSettings.model_fields["stop_grace_s"].default < 10
    await shop.start(0)
    await shop.instance(0).terminate()
    await shop.instance(0).start(STOP_GRACE_S="3")
    (lamp,) = await shop.put(100)
    commands = reserves(lamp, 10)
    async with shop.lock_held(lamp):
        await shop.publish(*commands)
        await shop.waits_for_lock()
        assert await shop.instance(0).terminate(within_s=5) == 1
    await shop.start(0)
    await shop.verdicts(commands)
    await shop.check()


async def test_f44_an_instance_that_is_stuck_says_where(shop: Any) -> None:
    """It has no error to show: each try waits for a lock until it gives up, and tries again."""
    await shop.start(0)
    await shop.instance(0).terminate()
    await shop.instance(0).start(STALLED_AFTER_S="5")
    (lamp,) = await shop.put(100)
    (command,) = reserves(lamp, 1)
    async with shop.lock_held(lamp):
        await shop.publish(command)
        await shop.waits_for_lock()
        (sent,) = await shop.topics.wait_for(COMMANDS, lambda one: one.key == command.order_id)
        answer = await eventually(
            shop.instance(0).readiness, accept=lambda answer: not answer["ready"], within_s=30
        )
        place = f"{shop.topics.connection.named(COMMANDS)}/{sent.partition}"
        assert answer["checks"]["kafka"] == f"stock: no progress for 5 s on {place}"
        assert answer["checks"]["postgres"] == "ok"
        labels = {"group": "stock", "partition": str(sent.partition)}
        assert await shop.metric("consumer_lag_records", **labels) == 1
        assert await shop.metric("pipeline_retries_total", group="stock", cause="timeout") > 0
        async with shop.instance(0).admin() as admin:
            assert (await admin.get("/livez")).status_code == 200, "a restart would mend nothing"
    await shop.verdicts([command])
    await shop.instance(0).wait_ready()
    await shop.check()


async def test_f46_postgres_is_killed_under_load(shop: Any, stack: Stack) -> None:
    await shop.start(0)
    products = await shop.put(10_000, count=3)
    commands = [command for lamp in products for command in reserves(lamp, 400)]
    await shop.publish(*commands[:600])
    async with shop.database.connection("stock") as connection:
        await eventually(
            lambda: connection.fetchval("SELECT count(*) FROM reservation"),
            accept=lambda count: count > 100,
        )
    await asyncio.to_thread(stack.kill, "postgres")
    await shop.publish(*commands[600:])
    await asyncio.to_thread(stack.wait_healthy, "postgres")
    replies = await shop.verdicts(commands, within_s=60)
    assert all(isinstance(reply, StockReserved) for reply in replies)
    assert shop.instance(0).is_running, "it was never restarted"
    await shop.instance(0).wait_ready()
    await shop.check()


async def test_f11_f41_the_broker_is_killed_under_load(shop: Any, stack: Stack) -> None:
    """Replies and dead letters alike wait in the outbox until there is somebody to take them."""
    await shop.start(0)
    (lamp,) = await shop.put(10_000)
    commands = reserves(lamp, 600)
    poison = new_id("poison")
    await shop.publish(*commands[:300])
    await shop.topics.publish(COMMANDS, [Record(b"{", poison)])
    await asyncio.to_thread(stack.kill, "kafka")
    await asyncio.to_thread(stack.wait_healthy, "kafka")
    await shop.publish(*commands[300:])
    replies = await shop.verdicts(commands, within_s=90)
    assert all(isinstance(reply, StockReserved) for reply in replies)
    letter = await shop.letter(LETTERS, lambda one: one.key == poison)
    assert letter.value == b"{"
    await shop.instance(0).wait_ready(within_s=60)
    await shop.check(within_s=90)


async def test_f42_what_does_not_fit_is_said_at_start(misfits: list[Instance], shop: Any) -> None:
    """A topic too few, one with other partitions, a schema that is behind, settings that don't
    fit: the process ends with a line and a code that tells it from a crash."""
    bare, behind, unfit = misfits
    codes = await asyncio.gather(*(instance.exited(within_s=60) for instance in misfits))
    assert codes == [3, 3, 2]
    topic = f"{shop.topics.prefix}bare.stock"
    assert f"topic {topic}.commands.v1 has 3 partitions and needs 12" in bare.log()
    assert f"topic {topic}.admin.v1 is missing; create it with: orderctl" in bare.log()
    assert f"topic {topic}.replies.v1 is missing" in bare.log(), "what it writes to, too"
    assert "the schema of stock is behind: " in behind.log()
    assert "OUTBOX_LEASE_S must be longer than PUBLISH_TIMEOUT_S" in unfit.log()
    assert "Traceback" not in bare.log() + behind.log() + unfit.log()
