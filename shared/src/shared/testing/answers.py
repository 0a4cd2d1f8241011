"""What is said of many commands, while it is said: each answer once, however often it comes.

    async with Answers.followed(connection, "coupon.events.v1") as answers:
        await publish(commands)
        await answers.reach(len(commands))
    issued = answers.one(commands[0].command_id, "CouponIssued")

It keeps no record of an answer twice, and none from before it began.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self

from shared.testing.kafka_records import Record, Tail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.kafka.connection import KafkaConnection


class Answers:
    """By command, by type: the values, which are one where all copies are equal."""

    def __init__(self, tail: Tail) -> None:
        self.said: dict[str, dict[str, set[bytes]]] = {}
        self._tail = tail
        self._more = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def followed(cls, connection: KafkaConnection, topic: str) -> AsyncIterator[Self]:
        """From the topic's end as it is now. Whatever lies there when the block ends is taken."""
        tail = await Tail.open(connection, topic, from_end=True)
        answers = cls(tail)
        following = asyncio.create_task(answers._follow())
        try:
            yield answers
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await tail.catch_up()
            answers._take()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await tail.consumer.stop()

    async def reach(self, commands: int, *, within_s: float = 120.0) -> None:
        """Returns once so many commands have an answer."""
        try:
            async with asyncio.timeout(within_s):
                while len(self.said) < commands:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {within_s:.0f} s: {commands} commands have an answer,"
                f" {len(self.said)} have one"
            ) from None

    def one(self, command_id: str, name: str) -> dict[str, Any]:
        """The one answer of this type to this command; all its copies are equal."""
        (value,) = self.said[command_id][name]
        return Record(value).json

    async def _follow(self) -> None:
        while True:
            await self._tail.poll()
            self._take()

    def _take(self) -> None:
        for record in self._tail.records:
            said = record.json
            by_type = self.said.setdefault(said["commandId"], {})
            by_type.setdefault(said["type"], set()).add(record.value or b"")
        self._tail.records.clear()
        self._more.set()
