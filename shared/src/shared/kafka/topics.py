"""Topics are created by command and verified at start, never made by accident."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from shared.contracts.topics import Topic
    from shared.kafka.connection import KafkaConnection

REQUEST_TIMEOUT_MS = 15_000
_TOPIC_ALREADY_EXISTS = 36


class TopicError(Exception):
    """A topic is missing, has another shape, or may not be used; the message says what to do."""


@asynccontextmanager
async def admin_client(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for topics and groups, closed afterwards."""
    client = AIOKafkaAdminClient(
        **connection.client_options(), request_timeout_ms=REQUEST_TIMEOUT_MS
    )
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create_topics(
    connection: KafkaConnection,
    topics: Iterable[Topic] = tuple(TOPICS.values()),
    *,
    replication: int = 1,
) -> list[str]:
    """Create what is missing and return its names; raises `TopicError` where the broker refuses."""
    async with admin_client(connection) as client:
        wanted = {connection.named(topic.name): topic for topic in topics}
        existing = set(await client.list_topics())
        missing = [name for name in wanted if name not in existing]
        if not missing:
            return []
        response = await client.create_topics(
            [
                NewTopic(
                    name,
                    wanted[name].partitions,
                    replication,
                    topic_configs=dict(wanted[name].config),
                )
                for name in missing
            ]
        )
        created = []
        for name, code, *detail in response.topic_errors:
            if code == _TOPIC_ALREADY_EXISTS:
                continue
            if code:
                error = for_code(code)
                raise TopicError(f"topic {name} can't be created: {error.__name__} {detail}")
            created.append(name)
        return created


async def verify_topics(
    connection: KafkaConnection, names: Iterable[str], *, within_s: float = 10.0
) -> None:
    """Raise `TopicError` unless each topic is there with the partitions that the contract says.

    New topics take a moment to be known to every broker, so a missing one is looked for
    again up to `within_s` seconds.
    """
    async with admin_client(connection) as client:
        wanted = {connection.named(name): TOPICS[name].partitions for name in names}
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            problems = await _problems(client, wanted)
            if not problems:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise TopicError("; ".join(problems))
            await asyncio.sleep(0.2)


async def _problems(client: AIOKafkaAdminClient, wanted: dict[str, int]) -> list[str]:
    problems = []
    for topic in await client.describe_topics(list(wanted)):
        name, code, partitions = topic["topic"], topic["error_code"], len(topic["partitions"])
        if code == 3:
            problems.append(f"topic {name} is missing; create it with: orderctl topics create")
        elif code:
            problems.append(f"topic {name} can't be read: {for_code(code).__name__}")
        elif partitions != wanted[name]:
            problems.append(
                f"topic {name} has {partitions} partitions and needs {wanted[name]}: orders of one"
                " key would lie on several; create it anew"
            )
    return problems
