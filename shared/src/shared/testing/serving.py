"""A server of HTTP in the test's own process, for what must answer as a test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.serving import HttpServer
from shared.testing.ports import ReservedPort
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[int]:
    """Serves `app` on a port of 127.0.0.1, which is given."""
    stopped = asyncio.Event()
    with ReservedPort() as port:
        server = HttpServer(app, port.host, port.port)
        task = asyncio.create_task(server.serve_until(stopped))
        try:
            await eventually(lambda: server.started or task.done(), describe="it listens")
            yield port.port
        finally:
            stopped.set()
            await task
