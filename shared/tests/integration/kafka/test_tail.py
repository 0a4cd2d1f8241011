"""The end of a topic is followed: what comes from now on is heard, once, whatever breaks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.background import Loop, repeat
from shared.kafka.tail import Tail
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiokafka import ConsumerRecord

    from shared.testing.kafka import Topics

TOPIC = "stock.commands.v1"


class Following:
    """A tail, and what it heard."""

    def __init__(self, topics: Topics) -> None:
        self.heard: list[bytes | None] = []
        self.beginnings = 0
        self.tail = Tail(topics.connection, "tail-0", {TOPIC: self._take}, self._began)

    async def hears(self, *values: bytes) -> None:
        await eventually(
            lambda: list(self.heard), accept=lambda heard: heard == list(values), within_s=30
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(repeat(Loop("tail", self.tail.run_once, 0.0), _ignored))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _take(self, records: Sequence[ConsumerRecord[bytes | None, bytes | None]]) -> None:
        self.heard += [record.value for record in records]

    def _began(self) -> None:
        self.beginnings += 1


async def _ignored(error: Exception) -> None:
    pass


async def test_what_comes_from_now_on_is_heard_across_a_restart(topics: Topics) -> None:
    await topics.create(TOPIC)
    await topics.publish(TOPIC, [b"before"])
    following = Following(topics)
    async with following.running():
        await following.tail.started()
        await topics.publish(TOPIC, [b"one"])
        await following.hears(b"one")
    await topics.publish(TOPIC, [b"meanwhile"])
    async with following.running():
        await following.hears(b"one", b"meanwhile")
    assert following.beginnings == 1


async def test_f43_a_place_that_is_gone_is_told_and_left(topics: Topics) -> None:
    await topics.create(TOPIC)
    following = Following(topics)
    async with following.running():
        await following.tail.started()
        await topics.publish(TOPIC, [b"one"])
        await following.hears(b"one")
    await topics.publish(TOPIC, [b"lost"])
    await topics.lose(TOPIC)
    async with following.running():
        await eventually(lambda: following.beginnings == 2, within_s=30)
        await topics.publish(TOPIC, [b"two"])
        await following.hears(b"one", b"two")
