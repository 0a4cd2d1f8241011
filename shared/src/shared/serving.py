"""HTTP ports of a service: served inside its event loop, and bounded for whoever comes."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.admin import json_problem
from shared.telemetry.metrics import CUT_OFF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

HEAD_WITHIN_S: Final = 10.0
"""From the connection, or the first byte of a further request, to the end of its headers."""
HEAD_BYTES_AT_MOST: Final = 384 * 1024
"""More than one read of the socket, which may hold some of the body too. The parser joins the
pieces of a header in time that grows with the square of its length."""
CONNECTIONS_AT_MOST: Final = 512
"""Of a port that is for operators and machines."""
IDLE_S: Final = 75.0
"""A connection without a request is kept so long: longer than proxies and clients keep theirs, so
that it is them who close it, and no request is on its way then."""
TAKEN_WITHIN_S: Final = 60.0
"""Who leaves so much of an answer untaken for so long that no more can be written is cut off."""
FINISH_WITHIN_S: Final = 1.0
"""For requests that are under way when a port closes."""


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """What is served where too many are connected."""
    answer = json_problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Service Unavailable",
        "too many connections; come again",
        reason="overloaded",
    )
    answer.headers.update({"retry-after": "1", "connection": "close"})
    await answer(scope, receive, send)


class PunctualProtocol(HttpToolsProtocol):
    """Cuts off who takes too long over the head of a request, or makes it or its trailers too long,
    who goes on with a body that was answered before it was whole, and who takes nothing of the
    answer: uvicorn itself waits for ever. Who is one connection too many is told when to come
    again."""

    _overdue: asyncio.TimerHandle | None = None
    """There while a head is expected."""
    _stuck: asyncio.TimerHandle | None = None
    """There while nothing can be written."""
    _head_bytes = 0
    _other_bytes = 0
    """Of what came behind the head: what is no body, as the framing of chunks and trailers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A request is expected."""
        super().connection_made(transport)
        self.limit_concurrency = None  # uvicorn's own answer doesn't say when to come again
        self._expect()

    def data_received(self, data: bytes) -> None:
        """What comes of a head is counted."""
        if self._overdue is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_AT_MOST:
                CUT_OFF.labels("head_too_long").inc()
                self.transport.abort()
                return
        else:
            self._other_bytes += len(data)
        super().data_received(data)
        if self._other_bytes > HEAD_BYTES_AT_MOST:
            CUT_OFF.labels("trailers_too_long").inc()
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """What comes of a body is the application's to bound."""
        self._other_bytes -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Nobody will read the rest of a body."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._other_bytes = 0
        if self._overdue is None:
            self._expect()

    def on_headers_complete(self) -> None:
        """The head is there; how long the body may take is the application's to say."""
        self._relax()
        at_most = self.config.limit_concurrency
        if at_most is not None and len(self.connections) >= at_most:
            CUT_OFF.labels("crowded").inc()
            self.app = _crowded
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._relax()
        self._flows()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The reader has much to take."""
        super().pause_writing()
        self._stuck = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It took most of it."""
        self._flows()
        super().resume_writing()

    def shutdown(self) -> None:
        """The port closes: nothing is awaited of a reader who takes nothing."""
        if self.flow.write_paused:
            self.transport.abort()
        else:
            super().shutdown()

    def _expect(self) -> None:
        self._overdue = self.loop.call_later(HEAD_WITHIN_S, self._is_late)

    def _is_late(self) -> None:
        CUT_OFF.labels("head_late").inc()
        self.transport.close()

    def _flows(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _relax(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        self._head_bytes = 0


class HttpServer(uvicorn.Server):
    """uvicorn inside the service's own event loop; signals stay with the service."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        name: str = "admin",
        connections_at_most: int = CONNECTIONS_AT_MOST,
        finish_within_s: float = FINISH_WITHIN_S,
    ) -> None:
        """Serve `app` on `host`:`port`; `name` is the port's, for who finds it taken. Requests on
        further connections than `connections_at_most` are answered 503. What is under way when
        the port closes is given up after `finish_within_s`."""
        self._name = name
        self._ended = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app, host=host, port=port, log_config=None, access_log=False, lifespan="off",
                timeout_graceful_shutdown=finish_within_s,  # type: ignore[arg-type]
                http=PunctualProtocol, ws="none", limit_concurrency=connections_at_most,
                server_header=False, proxy_headers=False, timeout_keep_alive=int(IDLE_S),
            )
        )  # fmt: skip

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield

    async def close(self) -> None:
        """Take no further connections, and let what is under way be answered."""
        self.should_exit = True
        await self._ended.wait()

    async def serve_until(self, stopped: asyncio.Event) -> None:
        """Serve until `stopped` is set; raises OSError where the port is taken."""

        async def stop() -> None:
            await stopped.wait()
            self.should_exit = True

        watcher = asyncio.create_task(stop())
        try:
            await self.serve()
        except SystemExit as refused:  # uvicorn ends the process when it can't bind
            raise OSError(
                f"the {self._name} port {self.config.host}:{self.config.port} can't be opened"
            ) from refused
        finally:
            watcher.cancel()
            self._ended.set()
