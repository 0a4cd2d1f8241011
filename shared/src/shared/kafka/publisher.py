"""A producer that keeps each record's key and headers, and replaces itself when it breaks.

FastStream's batch publishing gives all records of a batch one partition and one set of headers,
so the relay builds its batches itself, one for each partition.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from shared.telemetry import metrics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.kafka.connection import KafkaConnection

_log = get_logger(__name__)

MAX_REQUEST_BYTES = 2_200_000
"""Above the 2 MiB that dead-letter topics allow, headers included."""
BATCH_BYTES = 256 * 1024


class Record(NamedTuple):
    """One record to publish; `topic` is the contract's name."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


@lru_cache(maxsize=65_536)
def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of `key`, as Java's default partitioner chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions if key is not None else 0


class Publisher:
    """Publishes lists of records in order, all or an error."""

    def __init__(self, connection: KafkaConnection, client_id: str, *, timeout_s: float) -> None:
        """`timeout_s` bounds one call of `publish`; what happened is unknown when it passes."""
        self._connection = connection
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        # Partition counts are fixed by the contract, and asking the client costs more than hashing.
        self._partitions: dict[str, int] = {}

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish `records` and wait for the acknowledgement of all in-sync replicas.

        Raises `KafkaError`, `OSError` or `TimeoutError`; some may have been published then. The
        producer is thrown away after any of these: with idempotence on, one that lost its
        sequence never recovers.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._started()
                for future in [
                    future
                    for batch in self._batches(records).values()
                    for future in await self._send(producer, batch)
                ]:
                    await future
        except (KafkaError, OSError, TimeoutError):
            await self._discard()
            raise

    async def close(self) -> None:
        """Stop the producer; what it holds was acknowledged or is in the outbox."""
        await self._discard(rebuilt=False)

    def _batches(self, records: Sequence[Record]) -> dict[str, list[Record]]:
        by_topic: dict[str, list[Record]] = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
        return by_topic

    async def _send(
        self, producer: AIOKafkaProducer, records: Sequence[Record]
    ) -> list[asyncio.Future[object]]:
        """Hand the records of one topic to the producer, one batch a partition."""
        topic = self._connection.named(records[0].topic)
        partitions = self._partitions.get(topic)
        if partitions is None:
            partitions = len(await producer.partitions_for(topic))
            self._partitions[topic] = partitions
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            by_partition.setdefault(partition_of(record.key, partitions), []).append(record)
        futures = []
        for partition, rows in by_partition.items():
            batch = producer.create_batch()
            for record in rows:
                if self._append(batch, record):
                    continue
                futures.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                if not self._append(batch, record):
                    raise MessageSizeTooLargeError(f"one message to {topic} is over the limit")
            futures.append(await producer.send_batch(batch, topic, partition=partition))
        return futures

    @staticmethod
    def _append(batch: object, record: Record) -> bool:
        appended = batch.append(  # type: ignore[attr-defined]
            timestamp=record.timestamp_ms,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        return appended is not None

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._connection.client_options(),
                client_id=self._client_id,
                acks="all",
                enable_idempotence=self._connection.idempotence,
                linger_ms=0,
                max_batch_size=BATCH_BYTES,
                max_request_size=MAX_REQUEST_BYTES,
                request_timeout_ms=int(self._timeout_s * 1000),
            )
            try:
                await producer.start()
            except BaseException:
                await _stop(producer)
                raise
            self._producer = producer
        return self._producer

    async def _discard(self, *, rebuilt: bool = True) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if rebuilt:
            metrics.RELAY_REBUILDS.inc()
            _log.warning("producer_replaced")
        await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    # stop() waits for what it can't send any more
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(producer.stop(), timeout=1.0)
