"""Server-sent events: answers that go on, and end when the process does.

What is wrong is refused before the answer begins. Events are bytes that are ready, told to many at
once.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from storefront.endpoint import EVENT_STREAM
from storefront.metrics import STREAMS, TURNED_AWAY
from storefront.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

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
        self._places_taken = 0
        self._told: set[asyncio.Task[None]] = set()
        self._ending = False

    async def answer(self, what: str, events: AsyncGenerator[bytes]) -> Response:
        """Send `events` until they end. What is wrong before the first is raised here. Raises
        ProblemError, also where there are too many streams. `what` is a label of metrics."""
        if self._ending or self._places_taken >= self._at_most:
            await events.aclose()
            TURNED_AWAY.labels("streams").inc()
            raise unavailable(
                f"{self._at_most} streams are open already; try again", reason="overloaded"
            )
        with ExitStack() as place:
            place.enter_context(self._place(what))
            first = await anext(events, None)
            if first is None:
                # by the standard of server-sent events, who hears that doesn't connect again
                return Response(status_code=HTTPStatus.NO_CONTENT)
            return _Stream(self, first, events, place.pop_all())

    async def end(self) -> None:
        """End all streams, and take no further ones. Those that are still opening end as soon as
        they are open."""
        self._ending = True
        for task in self._told:
            task.cancel()
        if self._told:
            await asyncio.wait(self._told, timeout=END_WITHIN_S)

    async def run(self, first: bytes | None, events: AsyncGenerator[bytes], send: Send) -> None:
        """Send `first` and the events until they end, or this process does; cancelled where nobody
        listens."""
        task = asyncio.current_task()
        assert task is not None
        self._told.add(task)
        event = first
        del first
        try:
            while event is not None and not self._ending:
                await send(_body(event))
                event = None  # it may be large, and the next long in coming
                event = await anext(events, None)
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            self._told.discard(task)
        if self._ending:
            await send(_body(BYE))

    @contextmanager
    def _place(self, what: str) -> Iterator[None]:
        """A stream, from before its first event to its end."""
        self._places_taken += 1
        STREAMS.labels(what).inc()
        try:
            yield
        finally:
            self._places_taken -= 1
            STREAMS.labels(what).dec()


class _Stream(Response):
    media_type = EVENT_STREAM

    def __init__(
        self, streams: Streams, first: bytes, events: AsyncGenerator[bytes], place: ExitStack
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._first: bytes | None = first
        self._events = events
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with self._place:
            async with aclosing(self._events):
                await self._tell(receive, send)

    async def _tell(self, receive: Receive, send: Send) -> None:
        start = {
            "type": "http.response.start", "status": self.status_code, "headers": self.raw_headers,
        }  # fmt: skip
        await send(start)
        sent = asyncio.create_task(self._streams.run(self._take_first(), self._events, send))
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

    def _take_first(self) -> bytes | None:
        first, self._first = self._first, None
        return first


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(event: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": event, "more_body": True}
