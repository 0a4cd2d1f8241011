"""Publishes the lines of the example file: most at a steady rate, some at once, some after events.

Bodies go as they stand in the file, without headers, with the order's id as key where it can be
read: what any upstream does.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka import AIOKafkaProducer

from local_stack.demo.expectations import Expectations, Kind, kind_of, story_of
from orderctl.order_files import Line

RATE: Final = 200.0
"""Lines a second, below what the system does, so that no order's time is spent in a queue."""


class Placing:
    """Which line goes when."""

    def __init__(self, lines: Iterable[Line], expectations: Expectations) -> None:
        """A story's lines after the first wait where its kind says so."""
        self._kinds = expectations.kinds
        self._in_order: list[Line] = []
        self._held: dict[tuple[str, str], list[Line]] = {}
        self._due: asyncio.Queue[Line] = asyncio.Queue()
        begun: set[str] = set()
        for line in lines:
            kind = self._kind(line)
            story = story_of(line.order_id or "")
            if kind is not None and kind.second_line_after is not None and story in begun:
                self._held.setdefault((story, kind.second_line_after), []).append(line)
            else:
                self._in_order.append(line)
                begun.add(story)
        self._held_lines = sum(map(len, self._held.values()))

    def happened(self, order_id: str, event: str) -> None:
        """An event was read: what waited for it is due."""
        for line in self._held.pop((order_id, event), ()):
            self._due.put_nowait(line)

    async def run(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        published: Callable[[], None],
        rate: float = RATE,
    ) -> None:
        """Publish every line to `topic`, and call `published` for each; ends with the last one.

        Does not end while an event is missing that a line waits for: bound it. Raises the
        broker's errors.
        """

        async def send(line: Line) -> None:
            await producer.send(topic, line.value, key=line.key)
            published()

        async def send_in_order() -> None:
            next_s = time.monotonic()
            for line in self._in_order:
                kind = self._kind(line)
                if kind is None or not kind.at_once:
                    next_s += 1 / rate
                    await asyncio.sleep(max(0.0, next_s - time.monotonic()))
                await send(line)

        async def send_due() -> None:
            for _ in range(self._held_lines):
                await send(await self._due.get())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send_in_order())
            tasks.create_task(send_due())
        await producer.flush()

    def _kind(self, line: Line) -> Kind | None:
        return self._kinds.get(kind_of(line.order_id)) if line.order_id else None
