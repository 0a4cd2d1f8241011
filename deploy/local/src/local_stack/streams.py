"""Publishing to the stack's topics and listening to them, as any client outside would."""

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from local_stack.kafka import ADDRESS_VARIABLE
from local_stack.layout import PREFIX_VARIABLE
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.kafka.reading import partitions_of
from shared.kafka.topics import admin_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from aiokafka import ConsumerRecord

LINGER_MS = 2
BATCH_BYTES = 256 * 1024
FETCH_WAIT_MS = 50
QUIET_MS = 300
"""A topic has been read to its end when nothing more comes for so long."""


def connection_to(environment: "Mapping[str, str]") -> KafkaConnection:
    """The connection to a stack of these addresses, with its prefix.

    How an outside broker wants to be spoken to stands in this process's own environment.
    """
    return KafkaConnection(
        environment[ADDRESS_VARIABLE],
        environment.get(PREFIX_VARIABLE, ""),
        security_protocol=os.environ.get("KAFKA_SECURITY_PROTOCOL") or "PLAINTEXT",
        sasl_mechanism=os.environ.get("KAFKA_SASL_MECHANISM") or "SCRAM-SHA-512",
        sasl_username=os.environ.get("KAFKA_SASL_USERNAME"),
        sasl_password=os.environ.get("KAFKA_SASL_PASSWORD"),
    )


def prefix_of_its_own(purpose: str) -> dict[str, str]:
    """A prefix for one run where the environment names the broker: others may use it.

    `purpose` stands in its name, as in `demo-1f2e3d4c.`. Empty where the broker is the stack's own.
    """
    if not os.environ.get(ADDRESS_VARIABLE):
        return {}
    own = f"{os.environ.get(PREFIX_VARIABLE, '')}{purpose}-{secrets.token_hex(4)}."
    return {PREFIX_VARIABLE: own}


async def delete_topics(connection: KafkaConnection) -> None:
    """Delete all topics of a prefix, which may not be empty. Raises the broker's errors."""
    if not connection.topic_prefix:
        raise ValueError("without a prefix these are everybody's topics")
    async with admin_client(connection) as client:
        await client.delete_topics([connection.named(name) for name in TOPICS])


@asynccontextmanager
async def producer(connection: KafkaConnection) -> "AsyncIterator[AIOKafkaProducer]":
    """A producer that is flushed and closed at the end.

    Not idempotent: ids make a second copy harmless, and the broker for trying out has no
    idempotent producers.
    """
    client = AIOKafkaProducer(
        **connection.client_options(),
        acks="all",
        linger_ms=LINGER_MS,
        max_batch_size=BATCH_BYTES,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def listener(
    connection: KafkaConnection, topics: "Iterable[str]"
) -> "AsyncIterator[AIOKafkaConsumer]":
    """A consumer outside of every group that gets what is published from now on.

    Raises TopicError where a topic is missing.
    """
    async with _consumer(connection, topics) as client:
        partitions = client.assignment()
        await client.seek_to_end(*partitions)
        for partition in partitions:
            await client.position(partition)  # the end is looked up now, not at the first fetch
        yield client


async def everything(
    connection: KafkaConnection, topics: "Iterable[str]"
) -> "AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]":
    """All that lies on `topics`, each partition in its order, until nothing more comes.

    The end that a broker tells is a lower bound only: the one for trying out tells one too low.
    Raises TopicError where a topic is missing.
    """
    async with _consumer(connection, topics) as client:
        partitions = client.assignment()
        ends = await client.end_offsets(partitions)
        await client.seek_to_beginning(*partitions)
        while True:
            batches = await client.getmany(timeout_ms=QUIET_MS, max_records=5_000)
            for records in batches.values():
                for record in records:
                    yield record
            if not batches and all(
                [await client.position(partition) >= ends[partition] for partition in partitions]
            ):
                return


@asynccontextmanager
async def _consumer(
    connection: KafkaConnection, topics: "Iterable[str]"
) -> "AsyncIterator[AIOKafkaConsumer]":
    partitions = await partitions_of(connection, topics)
    client = AIOKafkaConsumer(
        **connection.client_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await client.start()
    try:
        client.assign(partitions)
        yield client
    finally:
        await client.stop()
