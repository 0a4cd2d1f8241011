"""Commands from many at once to the broker: what comes while one lot is on its way goes together
with the next.

For who has no outbox, and tells its caller whether the broker has acknowledged.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.kafka.publisher import Publisher, Record

RECORDS_AT_ONCE: Final = 1_000
RECORDS_WAITING: Final = 10_000


class NotPublishedError(Exception):
    """The broker has not acknowledged: it may have the record or not."""


class NeverPublishedError(NotPublishedError):
    """The record was not sent, and won't be."""


@dataclass(slots=True)
class _Waiting:
    """A record, and who waits for its acknowledgement."""

    record: Record
    future: asyncio.Future[None]
    is_sent: bool = False


class Outbound:
    """Publishes records that wait for their acknowledgement."""

    def __init__(self, publisher: Publisher, *, within_s: float) -> None:
        """Publish by `publisher`, which is nobody else's. Who waits longer than `within_s` is
        told that it failed."""
        self._publisher = publisher
        self._within_s = within_s
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()

    async def publish(self, record: Record) -> None:
        """Return once all in-sync replicas have it. Raises NotPublishedError."""
        if len(self._waiting) >= RECORDS_WAITING:
            raise NeverPublishedError(f"{RECORDS_WAITING} records wait already")
        waiting = _Waiting(record, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        try:
            async with asyncio.timeout(self._within_s):
                await waiting.future
        except TimeoutError:
            if waiting.is_sent:
                raise NotPublishedError(f"not within {self._within_s:g} s") from None
            raise NeverPublishedError(f"not sent within {self._within_s:g} s") from None

    async def run_once(self) -> None:
        """Wait for records, and publish all that are there. Raises what went wrong, after
        whoever waited was told."""
        await self._wake.wait()
        # whose caller is gone is not sent: nobody was told of it
        lot = [one for one in self._waiting[:RECORDS_AT_ONCE] if not one.future.done()]
        del self._waiting[:RECORDS_AT_ONCE]
        if not self._waiting:
            self._wake.clear()
        for one in lot:
            one.is_sent = True
        try:
            await self._publisher.publish([one.record for one in lot])
        except Exception as error:
            for one in lot:
                if not one.future.done():
                    one.future.set_exception(NotPublishedError(f"{type(error).__name__}: {error}"))
            raise
        for one in lot:
            if not one.future.done():
                one.future.set_result(None)
