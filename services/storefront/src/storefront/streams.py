"""Server-sent events: answers that go on, and end when the process does.

FastAPI has events of its own, written by routes that are generators: these can't refuse before the
answer has begun, and build a model for each event. Here events are bytes that are ready, told to
many at once.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from storefront.describing import EVENT_STREAM
from storefront.metrics import STREAMS, TURNED_AWAY
from storefront.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

HEARTBEAT_S: Final = 15.0
"""Between them, where nothing else is said: proxies end what is silent."""
HEARTBEAT: Final = b": \n\n"
BYE: Final = b"event: bye\ndata: {}\n\n"
"""The last event where the process ends: come again, somebody else is there."""
END_WITHIN_S: Final = 0.5
"""Readers that are too slow to be told are cut off."""


def event_of(name: str, event_id: str, data: bytes) -> bytes:
    """An event; `data` has no line breaks."""
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), event_id.encode(), data)


class Streams:
    """All open streams of a process."""

    def __init__(self, at_most: int) -> None:
        """Further streams than `at_most` are refused."""
        self._at_most = at_most
        self._open: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._ending = False

    async def answer(self, what: str, events: AsyncGenerator[bytes]) -> Response:
        """Send `events` until they end. What is wrong before the first is raised here. Raises
        ProblemError, also where there are too many streams. `what` is a label of metrics."""
        if self._ending or len(self._open) + self._opening >= self._at_most:
            await events.aclose()
            TURNED_AWAY.labels("streams").inc()
            raise unavailable(
                f"{self._at_most} streams are open already; try again", reason="overloaded"
            )
        self._opening += 1
        try:
            first = await anext(events, None)
        finally:
            self._opening -= 1
        if first is None:
            # by the standard of server-sent events, who hears that doesn't connect again
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return _Stream(self, what, first, events)

    async def end(self) -> None:
        """End all streams, and take no further ones."""
        self._ending = True
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=END_WITHIN_S)

    async def run(self, what: str, first: bytes, events: AsyncGenerator[bytes], send: Send) -> None:
        """Send events until they end, or this process does; cancelled where nobody listens."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        STREAMS.labels(what).inc()
        try:
            async with aclosing(events):
                await send(_body(first))
                async for event in events:
                    await send(_body(event))
        except asyncio.CancelledError:
            if not self._ending:
                raise
            await send(_body(BYE))
        finally:
            self._open.discard(task)
            STREAMS.labels(what).dec()


class _Stream(Response):
    media_type = EVENT_STREAM

    def __init__(
        self, streams: Streams, what: str, first: bytes, events: AsyncGenerator[bytes]
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._what = what
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        start = {
            "type": "http.response.start", "status": self.status_code, "headers": self.raw_headers,
        }  # fmt: skip
        await send(start)
        sent = asyncio.create_task(self._streams.run(self._what, self._first, self._events, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((sent, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not sent.done():
                sent.cancel()
            await asyncio.gather(sent, gone, return_exceptions=True)
        if not sent.cancelled():
            sent.result()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(event: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": event, "more_body": True}
