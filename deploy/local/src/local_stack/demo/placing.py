"""Publishes the lines of the example file: most at a steady rate, some at once, some after events.

Bodies go as they stand in the file, without headers, with the order's id as key where it can be
read: what any upstream does.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer

from local_stack.demo.expectations import Expectations, kind_of, story_of
from orderctl.order_files import COMMANDS, Line
from shared.kafka.connection import KafkaConnection

RATE: Final = 300.0
"""Lines a second, below what the system does, so that an order's time is not spent in a queue."""


class Placing:
    """Decides which line goes when."""

    def __init__(self, lines: Sequence[Line], expectations: Expectations) -> None:
        self._lines = lines
        self._kinds = expectations.kinds
        self._begun: set[str] = set()
        self._held: dict[tuple[str, str], list[Line]] = {}
        """Story and event -> what waits for it."""
        self._happened: set[tuple[str, str]] = set()
        self._due: asyncio.Queue[Line] = asyncio.Queue()
        self._waited_for = {kind.second_line_after for kind in self._kinds.values()} - {None}

    def happened(self, order_id: str, event: str) -> None:
        """An event was read: what waited for it is due."""
        if event in self._waited_for:
            place = (order_id, event)
            self._happened.add(place)
            for line in self._held.pop(place, ()):
                self._due.put_nowait(line)

    async def run(
        self,
        producer: AIOKafkaProducer,
        connection: KafkaConnection,
        published: Callable[[], None],
        rate: float = RATE,
    ) -> None:
        """Publish every line; `published` is called for each. Ends with the last one that waits.

        Raises the broker's errors.
        """
        topic = connection.named(COMMANDS)

        async def send(line: Line) -> None:
            await producer.send(topic, line.value, key=line.key)
            published()

        later = asyncio.create_task(self._send_due(send, self._count_held()))
        try:
            await self._send_in_order(send, rate)
            await producer.flush()
            await later
            await producer.flush()
        finally:
            later.cancel()

    async def _send_in_order(self, send: "Callable[[Line], object]", rate: float) -> None:
        next_s = time.monotonic()
        for line in self._lines:
            kind = self._kinds.get(kind_of(line.order_id)) if line.order_id else None
            if self._holds(line):
                continue
            if kind is None or not kind.at_once:
                next_s += 1 / rate
                if (wait_s := next_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
            await send(line)  # type: ignore[misc]

    def _event_before(self, line: Line) -> str | None:
        """The event that a line waits for: that of a story's first order, for its later lines."""
        if line.order_id is None:
            return None
        kind = self._kinds.get(kind_of(line.order_id))
        return kind.second_line_after if kind else None
