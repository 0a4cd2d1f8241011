"""The end of topics as it grows, in no group: every process that follows reads all of it.

What lay there before is nobody's question here; who needs that asks the service whose topic it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NoReturn

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shared.contracts.topics import TOPICS
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiokafka import ConsumerRecord

    from shared.kafka.connection import KafkaConnection

    Take = Callable[[Sequence[ConsumerRecord[bytes | None, bytes | None]]], None]

_log = get_logger(__name__)

RECORDS_AT_ONCE: Final = 2_000
POLL_TIMEOUT_MS: Final = 1_000
PAUSE_S: Final = 0.2
"""Before it follows again; a broker that can't be reached at all is the loop's to wait for."""
STOP_WITHIN_S: Final = 1.0


class Tail:
    """Follows topics from where they end when it starts, and gives each topic's records away."""

    def __init__(
        self,
        connection: KafkaConnection,
        client_id: str,
        takers: Mapping[str, Take],
        began: Callable[[], None],
    ) -> None:
        """`takers`: topic -> what takes its records, a list at a time; it may not raise.
        `began` is called whenever following begins anew, and what was written before is not
        heard."""
        self._began = began
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
        """Follow until the broker fails; raises its error where following did not even begin."""
        consumer = AIOKafkaConsumer(
            **self._connection.client_options(),
            client_id=self._client_id,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            fetch_max_wait_ms=500,
        )
        try:
            await consumer.start()
            await self._take_places(consumer)
            self._following.set()
            await self._follow(consumer)
        except OffsetOutOfRangeError:
            _log.warning("tail_lost_its_place")  # what it would have read is deleted already
            self._places.clear()
        except KafkaError as error:
            if not self._following.is_set():
                raise
            _log.warning("tail_interrupted", error=type(error).__name__, detail=str(error)[:200])
            await asyncio.sleep(PAUSE_S)
        finally:
            # stop() may hang on what it can't send any more
            with contextlib.suppress(TimeoutError, KafkaError, OSError):
                await asyncio.wait_for(consumer.stop(), STOP_WITHIN_S)

    async def _follow(self, consumer: AIOKafkaConsumer) -> NoReturn:
        while True:
            consumer.resume(*consumer.paused())
            found = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=RECORDS_AT_ONCE)
            # nothing is fetched meanwhile: the next fetch finds more
            consumer.pause(*self._partitions)
            for partition, records in found.items():
                self._places[partition] = records[-1].offset + 1
                self._takers[partition.topic](records)

    async def _take_places(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(self._partitions)
        if not self._places:
            self._places = dict(await consumer.end_offsets(self._partitions))
            self._began()
        for partition, place in self._places.items():
            consumer.seek(partition, place)
