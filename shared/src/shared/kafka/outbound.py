"""Commands from many at once to the broker: what comes while one lot is on its way goes together
with the next.

For who has no outbox, and tells its caller whether the broker has acknowledged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from shared.kafka.publisher import Publisher, Record
    from shared.pace import Pace

RECORDS_AT_ONCE: Final = 1_000
RECORDS_WAITING: Final = 10_000


class NotPublishedError(Exception):
    """The broker has not acknowledged: it may have the record or not."""


class NeverPublishedError(NotPublishedError):
    """The record was not sent, and won't be."""


class Outbound:
    """Publishes records that wait for their acknowledgement."""

    def __init__(self, publisher: Publisher, pace: Pace) -> None:
        """Publish by `publisher`, which is nobody else's, at the `pace` given."""
        self._publisher = publisher
        self._pace = pace
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    async def publish(self, record: Record) -> None:
        """Return once all in-sync replicas have it. Raises NotPublishedError."""
        if len(self._waiting) >= RECORDS_WAITING:
            raise NeverPublishedError(f"{RECORDS_WAITING} records wait already")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        self._wake.set()
        await future

    async def run_once(self) -> None:
        """Wait for records, and publish all that are there. Raises the broker's errors, after
        whoever waited was told."""
        await self._wake.wait()
        await self._pace.turn()
        self._pace.begun()
        # whose caller is gone is not sent: nobody was told of it
        lot = [one for one in self._waiting[:RECORDS_AT_ONCE] if not one[1].done()]
        del self._waiting[:RECORDS_AT_ONCE]
        if not self._waiting:
            self._wake.clear()
        try:
            await self._publisher.publish([record for record, _ in lot])
        except (KafkaError, OSError, TimeoutError) as error:
            for _, future in lot:
                if not future.done():
                    future.set_exception(NotPublishedError(f"{type(error).__name__}: {error}"))
            raise
        for _, future in lot:
            if not future.done():
                future.set_result(None)
