"""The demo on somebody else's broker: topics of its own, gone afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from local_stack.streams import connection_to, delete_topics, prefix_of_its_own
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.kafka.topics import admin_client, create_topics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local_stack import Environment


def test_on_a_broker_of_the_environment_every_demo_has_a_prefix_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("KAFKA_TOPIC_PREFIX", "shop.")
    assert prefix_of_its_own("demo") == {}
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "b:1")
    one, other = prefix_of_its_own("demo"), prefix_of_its_own("demo")
    assert one != other
    assert one["KAFKA_TOPIC_PREFIX"].startswith("shop.demo-")
    connection = connection_to({"KAFKA_BOOTSTRAP_SERVERS": "b:1", **one})
    assert connection.named("stock") == one["KAFKA_TOPIC_PREFIX"] + "stock"


async def test_the_topics_of_a_prefix_are_deleted_and_no_others(environment: Environment) -> None:
    servers = environment.kafka_bootstrap_servers
    here, beside = KafkaConnection(servers, "demo-1."), KafkaConnection(servers, "demo-11.")
    levels = TOPICS["stock.levels.v1"]
    await create_topics(here, [levels])
    await create_topics(beside, [levels])
    try:
        async with admin_client(beside) as client:

            async def there() -> set[str]:
                return {name for name in await client.list_topics() if name.startswith("demo-1")}

            await until(there, {here.named(levels.name), beside.named(levels.name)})
            await delete_topics(here)
            await until(there, {beside.named(levels.name)})
    finally:
        await delete_topics(beside)
    with pytest.raises(ValueError, match="everybody's"):
        await delete_topics(KafkaConnection(servers))


async def until(look: Callable[[], Awaitable[set[str]]], expected: set[str]) -> None:
    """The broker tells of topics a moment after it made or deleted them."""
    deadline = time.monotonic() + 10
    while (found := await look()) != expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
