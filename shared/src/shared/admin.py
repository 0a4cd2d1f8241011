"""The admin port: health, metrics, and the operator's actions of a service."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.database.faults import cause, leaves_pool_stale

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

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
        or cause(error) in ("timeout", "deadlock")
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


async def read_body(request: Request, at_most: int) -> bytes | None:
    """The body; None where it is longer than `at_most` bytes, and nothing of it is kept. Raises
    ClientDisconnect where it doesn't come whole."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > at_most:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > at_most:
            return None
    return bytes(body)


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
