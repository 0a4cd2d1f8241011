"""The life of a process of ours: start, run until SIGTERM, stop in order.

It serves its ports, runs its loops, and ends as a whole with whatever fails in it that nothing
handles. What a process does beside that is its subclass's: `shared.service.Service` reads topics
into Postgres, the storefront serves HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import uvloop

from shared.admin import admin_app
from shared.background import repeat
from shared.preconditions import StartError
from shared.serving import HttpServer
from shared.telemetry.logs import configure_logs, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from starlette.routing import BaseRoute

    from shared.admin import Check
    from shared.background import Loop
    from shared.settings import ProcessSettings


class Closing(Protocol):
    """Something with a connection of its own."""

    async def close(self) -> None:
        """Let go of it."""


_Closing = TypeVar("_Closing", bound=Closing)
_log = get_logger(__name__)

EXIT_MISCONFIGURED = 3
GC_THRESHOLDS = (50_000, 20, 50)


class Process:
    """The parts that every process is made of, wired together."""

    def __init__(self, name: str, settings: ProcessSettings) -> None:
        """`name` is the service's."""
        self.name = name
        self._settings = settings
        self._loops: list[Loop] = []
        self._checks: dict[str, Check] = {}
        self._admin_routes: list[BaseRoute] = []
        self._servers: list[HttpServer] = []
        self._finishing: list[Callable[[], Awaitable[None]]] = []
        self._closing: list[Closing] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._serving: list[asyncio.Task[None]] = []
        self._serving_stopped = asyncio.Event()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None

    def add_loop(self, loop: Loop) -> None:
        """Run `loop` in the background from the start on."""
        self._loops.append(loop)

    def add_check(self, name: str, check: Check) -> None:
        """Make readiness depend on `check`."""
        self._checks[name] = check

    def add_admin_routes(self, routes: Sequence[BaseRoute]) -> None:
        """Serve `routes` on the admin port as well."""
        self._admin_routes.extend(routes)

    def add_server(self, server: HttpServer) -> None:
        """Serve a port of its own, beside the admin port."""
        self._servers.append(server)

    def finishing(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Wait for `finish` when the process stops, for a third of the grace period at most: what
        is under way then is settled, and no loop has ended yet."""
        self._finishing.append(finish)

    def closing(self, part: _Closing) -> _Closing:
        """Close `part` when the process stops."""
        self._closing.append(part)
        return part

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises `StartError` where it can't start as things are."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        app = admin_app(self._checks, self._admin_routes)
        admin = HttpServer(app, self._settings.admin_host, self._settings.admin_port)
        for server in (admin, *self._servers):
            self._serve(server)
        try:
            if await self._unless_stopped(self._prepare()):
                for each in self._loops:
                    self._spawn(each.name, repeat(each, self._failed_pass))
                if await self._unless_stopped(self._begin()):
                    # What is alive now stays: the collector need not look at it again, and what
                    # is made from here on is freed by reference counts.
                    gc.collect()
                    gc.freeze()
                    gc.set_threshold(*GC_THRESHOLDS)
                    _log.info("started")
                    await self._stop.wait()
        finally:
            # aiokafka's stop() can hang: past the grace period the process ends as it is
            overdue = loop.call_later(self._settings.stop_grace_s, _give_up)
            await self._shut_down()
            self._serving_stopped.set()
            await asyncio.gather(*self._serving, return_exceptions=True)
            overdue.cancel()
        if self._failure is not None:
            raise self._failure

    async def _prepare(self) -> None:
        """Before any loop runs. Raises `StartError` where waiting won't help."""

    async def _begin(self) -> None:
        """Take up the work, beside the loops."""

    async def _finish(self) -> None:
        """Take no further work, and finish what is in hand."""
        await self._finish_parts()

    async def _release(self) -> None:
        """Let go of everything; no task runs any more."""
        for part in self._closing:
            await part.close()

    async def _failed_pass(self, error: Exception) -> None:
        """What a failed pass of a loop is good to know for."""

    async def _finish_parts(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.stop_grace_s / 3):
                await asyncio.gather(*(finish() for finish in self._finishing))

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`; False where the process was told to stop before it was done."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return False
        task.result()
        return True

    async def _shut_down(self) -> None:
        await self._finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._release()
        _log.info("stopped")

    def _serve(self, server: HttpServer) -> None:
        """Serve a port until the process has stopped."""
        task = asyncio.create_task(server.serve_until(self._serving_stopped))
        task.add_done_callback(self._on_task_done)
        self._serving.append(task)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_task_done)
        self._tasks.append(task)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the process: it may not go on after an error that nothing handled."""
        _log.critical("failed", error=type(error).__name__, exc_info=error)
        self._failure = error
        self._stop.set()


def run(compose: Callable[[], Process], settings: ProcessSettings) -> None:
    """Run the process that `compose` makes, inside a new event loop, and end it."""
    service_name = settings.instance_id.rpartition("-")[0] or settings.instance_id
    configure_logs(settings.log_level, service=service_name, instance=settings.instance_id)

    async def main() -> None:
        await compose().run()

    try:
        uvloop.run(main())
    except StartError as error:
        sys.stderr.write(f"{settings.instance_id} can't start: {error}\n")
        sys.exit(EXIT_MISCONFIGURED)


def _give_up() -> None:
    _log.error("stopping_took_too_long")
    os._exit(1)
