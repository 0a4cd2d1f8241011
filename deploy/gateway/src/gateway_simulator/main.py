"""The simulator's process: `python -m gateway_simulator.main`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from gateway_simulator.admin import Admin
from gateway_simulator.app import Provider
from gateway_simulator.book import Book
from gateway_simulator.clockwork import keep_time
from gateway_simulator.fault_memory import FaultMemory
from gateway_simulator.outbox import Outbox
from gateway_simulator.problems import Refusal
from gateway_simulator.protocol import Protocol
from gateway_simulator.settings import Settings, load_settings
from gateway_simulator.store import Store
from gateway_simulator.waiting import Alarm
from gateway_simulator.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

STOP_GRACE_S = 1
"""How long requests are waited for at the end; one that hangs by request is not."""
BACKLOG = 2_048
GC_THRESHOLDS = (50_000, 20, 50)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    settings = load_settings()
    _configure_logs(settings.log_level)
    gc.freeze()  # what is there now stays; charges leave no cycles that were worth many looks
    gc.set_threshold(*GC_THRESHOLDS)
    return uvloop.run(_run(settings))


async def _run(settings: Settings) -> int:
    store = Store(settings.book)
    events, dues = Alarm(_now_ms), Alarm(_now_ms)
    outbox = Outbox(store, _now_ms)
    book = Book(store, outbox, key_retention_s=settings.key_retention_s, clock_ms=_now_ms)
    faults = FaultMemory(store)
    provider = Provider(
        store,
        book,
        faults,
        api_key=settings.api_key.get_secret_value(),
        clock_ms=_now_ms,
        dues=dues,
        events=events,
    )
    webhooks = Webhooks(store, outbox, events, settings.webhook_secret.get_secret_value())
    server = _Server(
        uvicorn.Config(
            application(provider, Admin(store, faults)),
            host=settings.host,
            port=settings.port,
            http=Protocol,
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_GRACE_S,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    serving = asyncio.create_task(server.serve())
    loops = [
        asyncio.create_task(webhooks.run()),
        asyncio.create_task(keep_time(store, book, dues, events)),
    ]
    try:
        done, _ = await asyncio.wait((serving, *loops), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a loop ends by a defect only, and then the process does
    finally:
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        store.close()
    return 0


def application(provider: Provider, admin: Admin) -> Starlette:
    """All routes."""
    return Starlette(
        routes=[
            Route("/v1/charges", provider.charge, methods=["POST"]),
            Route("/v1/charges", provider.charges, methods=["GET"]),
            Route("/v1/charges/{id}", provider.charge_by_id, methods=["GET"]),
            Route("/v1/refunds", provider.refund, methods=["POST"]),
            Route("/v1/refunds", provider.refunds, methods=["GET"]),
            Route("/admin/faults", admin.show_faults, methods=["GET"]),
            Route("/admin/faults", admin.set_faults, methods=["PUT"]),
            Route("/admin/faults", admin.clear_faults, methods=["DELETE"]),
            Route("/admin/book", admin.show_book),
            Route("/livez", admin.livez),
            Route("/readyz", admin.readyz),
        ],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _not_served,
            ClientDisconnect: _gone,
            Exception: _defect,
        },
    )


class _Server(uvicorn.Server):
    """uvicorn in this process's loop; signals stay with the process."""

    def stop(self) -> None:
        """Take no more requests and end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = error.detail.lower().replace(" ", "_")
    refusal = Refusal(error.status_code, code, f"{request.method} {request.url.path} isn't served")
    answer = refusal.response()
    answer.headers.update(error.headers or {})
    return answer


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _defect(request: Request, error: Exception) -> Response:
    # not one that was asked for: those say so
    return Refusal(500, "internal_error", f"a defect: {type(error).__name__}").response()


def _now_ms() -> int:
    return int(time.time() * 1_000)


def _configure_logs(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=level, stream=sys.stderr)
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
