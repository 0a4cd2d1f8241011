"""How records come out of FastStream and aiokafka: bounded, in order, and none fetched ahead."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from faststream.kafka.subscriber.usecase import BatchSubscriber

from shared.contracts.reading import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    Records = tuple[ConsumerRecord[Any, Any], ...]


class PatientSubscriber(BatchSubscriber):
    """A batch subscriber that waits for messages and doesn't sleep.

    FastStream's own sleeps for its poll timeout after each empty poll: a short timeout burns a
    core's time in every idle group, a long one delays the message that comes meanwhile. The
    fetcher wakes a poll at once when something arrives, so a long poll costs neither.
    """

    __slots__ = ()

    max_bytes: int = 4 * 1024 * 1024
    """What a chunk may hold of keys, values and headers, as they are once unpacked: a fetch is
    bounded in what came over the wire, and what compresses well is a thousand times that."""
    _error: KafkaError | None = None
    take: Callable[[Records], Awaitable[None]]
    """What is done with a chunk. It never raises."""

    async def consume_one(self, msg: Records) -> None:
        """Give the records as they are to `take`.

        FastStream's own way to a handler, through contexts, middlewares and a message of its own,
        costs as much as reading a chunk of ten, and its parser raises on null or binary headers.
        """
        await self.take(msg)

    async def get_msg(self, consumer: AIOKafkaConsumer) -> Records:
        """The records that are there, or those that come first; none after the timeout.

        Nothing is fetched while a chunk is in hand. aiokafka would fetch ahead what is there when
        the chunk starts, and what comes while it runs would wait for a chunk more. Records that
        came in one fetch beyond `max_records` or `max_bytes` stay with the client, which unpacks
        them as they are taken, and need no other.

        Raises `KafkaError`, and never with records in hand: the client won't give them again.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        consumer.resume(*consumer.paused())
        taken = await self._take(consumer, self.batch_timeout_ms, self._step(0, 0))
        held_bytes = sum(map(_bytes_of, taken))
        while taken and (step := self._step(len(taken), held_bytes)):
            # what is there is taken without a switch of tasks: no rebalance comes in between
            try:
                more = await self._take(consumer, 0, step)
            except KafkaError as error:
                self._error = error
                break
            if not more:
                break
            taken += more
            held_bytes += sum(map(_bytes_of, more))
        consumer.pause(*consumer.assignment())
        return tuple(taken)

    def _step(self, records: int, held_bytes: int) -> int:
        """How many records to take next: so many that the largest that is read would fit, and one
        at least; 0 where the chunk is full."""
        assert self.max_records is not None
        if records and held_bytes >= self.max_bytes:
            return 0
        return min(self.max_records - records, max(1, (self.max_bytes - held_bytes) // MAX_BYTES))

    @staticmethod
    async def _take(
        consumer: AIOKafkaConsumer, timeout_ms: int, max_records: int
    ) -> list[ConsumerRecord[Any, Any]]:
        found = await consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        return list(chain.from_iterable(found.values()))


def _bytes_of(record: ConsumerRecord[Any, Any]) -> int:
    headers = sum([len(content) for _, content in record.headers if content])
    return len(record.key or b"") + len(record.value or b"") + headers
