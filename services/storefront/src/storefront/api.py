"""The HTTP application: routes, what every answer has, and what becomes of what goes wrong."""

from __future__ import annotations

import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from shared.telemetry.logs import get_logger
from storefront.describing import describe
from storefront.metrics import REQUEST_SECONDS, REQUESTS
from storefront.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = get_logger(__name__)

DESCRIPTION = (
    "Orders, payments, carts, coupons and stock. Requests become commands on the bus; an answer"
    " comes once their outcome is known."
)
_NO_ROUTE = "other"


def application(routers: Sequence[APIRouter]) -> ASGIApp:
    """The storefront's routes as an ASGI application."""
    app = FastAPI(
        title="Storefront", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    for router in routers:
        app.include_router(router)
    app.openapi = partial(_described, app)  # type: ignore[method-assign]
    app.exception_handler(ProblemError)(_problem)
    app.exception_handler(HTTPException)(_no_route)
    app.exception_handler(ClientDisconnect)(_nobody_listens)
    app.exception_handler(Exception)(_defect)
    return Counted(app)


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


class Counted:
    """Counts requests by route and status, and how long they took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", _NO_ROUTE)
                _counter(route, message["status"]).inc()
                _timer(route).observe(time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, counted)


_counters: dict[tuple[str, int], Any] = {}
_timers: dict[str, Any] = {}


def _counter(route: str, status: int) -> Any:
    found = _counters.get((route, status))
    if found is None:
        found = _counters[route, status] = REQUESTS.labels(route, str(status))
    return found


def _timer(route: str) -> Any:
    found = _timers.get(route)
    if found is None:
        found = _timers[route] = REQUEST_SECONDS.labels(route)
    return found


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    what = "no such path; see /openapi.json"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        what = f"no {request.method} on this path"
    return ProblemError(status, what, headers=error.headers).response()


async def _nobody_listens(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _defect(request: Request, error: Exception) -> Response:
    _log.error("request_failed", route=request.scope["path"][:100], exc_info=error)
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of the storefront; it is logged"
    ).response()
