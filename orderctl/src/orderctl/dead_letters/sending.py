"""Publishing replays: a letter's message on its topic of origin, with where it was taken from.

A replay is the message as it came, or with an edited value, under its own key, in its own trace,
with CloudEvents headers as every message has them, and two more that say where it was taken from
and by whom.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from orderctl.dead_letters.letter import REPLAYED_BY_HEADER, REPLAYED_FROM_HEADER, Place
from orderctl.errors import OperatorError
from shared.contracts.base import message_id
from shared.kafka.publisher import MAX_REQUEST_BYTES
from shared.pipeline.outbox import Chunk, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderctl.dead_letters.judging import Due
    from shared.kafka.connection import KafkaConnection
    from shared.kafka.publisher import Record

SOURCE: Final = "orderctl"
SEND_S: Final = 30.0
OPERATOR_CHARS: Final = 64


def records(due: Sequence[Due], operator: str, now: datetime) -> list[Record]:
    """What is to be published."""
    rows = [
        Row(
            topic=one.letter.origin,
            key=one.key,
            message_type=one.message.type,
            message_id=message_id(one.message),
            value=one.value,
            traceparent=one.letter.headers.get("traceparent", ""),
            headers={
                REPLAYED_FROM_HEADER: str(one.letter.place),
                REPLAYED_BY_HEADER: operator[:OPERATOR_CHARS],
            },
        )
        for one in due
    ]
    return [
        record._replace(headers=[one for one in record.headers if one != ("traceparent", b"")])
        for record in Chunk(0, now, rows).records(SOURCE)
    ]


class Sender:
    """Publishes replays. Without a producer id: a replay twice has one effect anyway."""

    def __init__(self, connection: KafkaConnection, operator: str) -> None:
        self._connection = connection
        self._operator = operator
        self._producer: AIOKafkaProducer | None = None
        self.sent = 0

    async def send(self, due: Sequence[Due]) -> list[Place]:
        """Where they lie now. Raises OperatorError; some may have been published then."""
        try:
            async with asyncio.timeout(SEND_S):
                producer = await self._started()
                waiting = [
                    await producer.send(
                        self._connection.named(record.topic),
                        record.value,
                        key=record.key,
                        headers=record.headers,
                        timestamp_ms=record.timestamp_ms,
                    )
                    for record in records(due, self._operator, datetime.now(UTC))
                ]
                found: list[Any] = await asyncio.gather(*waiting)
        except KafkaConnectionError:
            raise
        except (KafkaError, OSError) as error:
            raise OperatorError(
                f"Kafka did not take all of it ({type(error).__name__}): {self.sent} letters were"
                " replayed for sure, further ones perhaps. The same call again is safe"
            ) from error
        self.sent += len(found)
        return [self._place(one) for one in found]

    async def close(self) -> None:
        """Let go of the broker."""
        if self._producer is not None:
            await self._producer.stop()

    def _place(self, metadata: Any) -> Place:
        partition: TopicPartition = metadata.topic_partition
        return Place(self._connection.plain(partition.topic), partition.partition, metadata.offset)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._connection.client_options(),
                client_id=SOURCE,
                acks="all",
                max_request_size=MAX_REQUEST_BYTES,
            )
            await self._producer.start()
        return self._producer
