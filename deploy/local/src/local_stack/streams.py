"""Publishing to the stack's topics and listening to them, as any client outside would."""

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from shared.audit.reading import partitions_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from shared.kafka.connection import KafkaConnection

LINGER_MS = 2
BATCH_BYTES = 256 * 1024
FETCH_WAIT_MS = 50


@asynccontextmanager
async def producer(connection: "KafkaConnection") -> "AsyncIterator[AIOKafkaProducer]":
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
    connection: "KafkaConnection", topics: "Iterable[str]"
) -> "AsyncIterator[AIOKafkaConsumer]":
    """A consumer outside of every group that gets what is published from now on.

    Raises TopicError where a topic is missing.
    """
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
        await client.seek_to_end(*partitions)
        for partition in partitions:
            await client.position(partition)  # the end is looked up now, not at the first fetch
        yield client
    finally:
        await client.stop()
