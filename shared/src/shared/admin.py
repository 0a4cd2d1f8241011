"""The admin port: health, metrics, and the operator's actions of a service."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.database.faults import cause, leaves_pool_stale

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence

    from pydantic import ValidationError
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    Check = Callable[[], Awaitable[str | None]]

CHECK_TIMEOUT_S = 3.0
ANSWER_WITHIN_S = 8.0
"""Below the 10 s that `orderctl` waits: a database that hangs is told as such."""

_T = TypeVar("_T")


def admin_app(checks: Mapping[str, Check], routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The application of the admin port.

    Each check returns None where its dependency is well, or what is wrong with it. A route may
    let the database's faults pass: where it is away that is told as 503, and not logged.
    """

    async def livez(request: Request) -> Response:
        # the event loop runs: that is all that a restart could mend
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        names = list(checks)
        found = await asyncio.gather(*(_run(checks[name]) for name in names))
        problems = {name: problem for name, problem in zip(names, found, strict=True) if problem}
        body = {
            "ready": not problems,
            "checks": {name: problems.get(name, "ok") for name in names},
        }
        return JSONResponse(body, status_code=503 if problems else 200)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *routes,
        ],
        exception_handlers={
            HTTPException: _http_problem,
            ClientDisconnect: _nobody_listens,
            OSError: _database_away,
            asyncpg.PostgresError: _database_away,
            asyncpg.InterfaceError: _database_away,
            asyncpg.InternalClientError: _database_away,
        },
    )


class HttpServer(uvicorn.Server):
    """uvicorn inside the service's own event loop; signals stay with the service."""

    def __init__(self, app: Starlette, host: str, port: int, *, name: str = "admin") -> None:
        """Serve `app` on `host`:`port`; `name` is the port's, for who finds it taken."""
        self._name = name
        super().__init__(
            uvicorn.Config(
                app, host=host, port=port, log_config=None, access_log=False, lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield

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


async def _http_problem(request: Request, error: Exception) -> Response:
    """No such route, or not by this method: a problem as all others are."""
    assert isinstance(error, HTTPException)
    detail = f"the admin port serves no {request.method} on this path"
    answer = json_problem(error.status_code, error.detail, detail)
    answer.headers.update(error.headers or {})
    return answer


async def _nobody_listens(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _database_away(request: Request, error: Exception) -> Response:
    if not (
        leaves_pool_stale(error)
        or cause(error) == "timeout"
        or isinstance(error, asyncpg.TooManyConnectionsError)
        # a connection or a pool that is closed; a wrong argument is a defect and stays one
        or (isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError))
    ):
        raise error
    return json_problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "Unavailable", "the database doesn't answer"
    )


async def _run(check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), CHECK_TIMEOUT_S)
    except TimeoutError:
        return f"no answer in {CHECK_TIMEOUT_S:.0f} s"
    except Exception as error:  # noqa: BLE001 - a probe reports whatever is wrong
        return f"{type(error).__name__}: {error}"[:200]


def json_problem(status: int, title: str, detail: str, **extra: Any) -> Response:
    """An error as a problem document (RFC 9457)."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra},
        status_code=status,
        media_type="application/problem+json",
    )


def faults(error: ValidationError) -> str:
    """What is wrong with a request, for a problem's detail: each field with its fault."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    )


async def in_time(work: Coroutine[Any, Any, _T]) -> _T:
    """Its result. Raises TimeoutError where the time is up, without waiting for it to give up: that
    may take a database which hangs as long again."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=ANSWER_WITHIN_S)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)
    if not task.done():
        raise TimeoutError
    return task.result()


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio doesn't log it
