"""The end of topics as it grows, in no group: every process that follows reads all of it.

What lay there before is nobody's question here; who needs that asks the service whose topic it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiokafka import ConsumerRecord

    from shared.kafka.connection import KafkaConnection
    from shared.pace import Pace

    Take = Callable[[Sequence[ConsumerRecord[bytes | None, bytes | None]]], None]

RECORDS_AT_ONCE: Final = 2_000
POLL_TIMEOUT_MS: Final = 1_000


class Tail:
    """Follows topics from where they end when it starts, and gives each topic's records away."""

    def __init__(
        self, connection: KafkaConnection, client_id: str, takers: Mapping[str, Take], pace: Pace
    ) -> None:
        """`takers`: topic -> what takes its records, a list at a time; it may not raise. What comes
        is taken at the `pace` given."""
        self._pace = pace
        self._connection = connection
        self._client_id = client_id
        self._takers = {connection.named(topic): take for topic, take in takers.items()}
        self._partitions = [
            TopicPartition(connection.named(topic), number)
            for topic in takers
            for number in range(TOPICS[topic].partitions)
        ]
        self._places: dict[TopicPartition, int] = {}
        """What is read next; kept when the consumer is made anew."""
        self._following = asyncio.Event()

    async def started(self) -> None:
        """Returns once all that comes from now on is heard."""
        await self._following.wait()

    async def run_once(self) -> None:
        """Follow until the broker fails; raises its error then."""
        consumer = AIOKafkaConsumer(
            **self._connection.client_options(),
            client_id=self._client_id,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="latest",
            fetch_max_wait_ms=500,
        )
        try:
            await consumer.start()
            await self._take_places(consumer)
            self._following.set()
            while True:
                await self._pace.turn()
                consumer.resume(*consumer.paused())
                found = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=RECORDS_AT_ONCE
                )
                # nothing is fetched meanwhile: the next fetch finds more
                consumer.pause(*self._partitions)
                if found:
                    self._pace.begun()
                for partition, records in found.items():
                    self._places[partition] = records[-1].offset + 1
                    self._takers[partition.topic](records)
        finally:
            await consumer.stop()

    async def _take_places(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(self._partitions)
        if not self._places:
            self._places = dict(await consumer.end_offsets(self._partitions))
        for partition, place in self._places.items():
            consumer.seek(partition, place)
