"""A route of the storefront: how it is counted, what goes wrong in it, and what its OpenAPI
document says."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shared.telemetry.logs import get_logger
from storefront.metrics import REQUEST_SECONDS, REQUESTS
from storefront.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import Counter
    from starlette.types import Receive, Scope, Send

    from shared.contracts.base import Record

    Serve = Callable[[Request], Awaitable[Response]]

_log = get_logger(__name__)

EVENT_STREAM: Final = "text/event-stream"


class Stream:
    """The answer of a route that has server-sent events."""


class Says(NamedTuple):
    """What a route's entry in the OpenAPI document says, beside its path and its docstring."""

    tag: str
    answer: type[Record | Stream] | None
    """What 200 has; None: 204 and nothing."""
    others: tuple[int, ...] = ()
    """Further statuses, beside those that any route may answer."""
    body: type[Record] | None = None
    keyed: bool = False
    """Whether it takes an `Idempotency-Key`."""
    parameters: tuple[dict[str, Any], ...] = ()
    """In the query or the head."""


class Endpoint:
    """Serves one method of one path, as an ASGI application."""

    def __init__(self, path: str, serve: Serve, says: Says) -> None:
        self.path = path
        self.serve = serve
        self.says = says
        self._seconds = REQUEST_SECONDS.labels(path)
        self._counts: dict[int, Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = time.perf_counter()
        try:
            if scope["method"] == "HEAD" and self.says.answer is Stream:
                response = _head_of_stream()  # a stream has no end, and nobody would read it
            else:
                response = await self.serve(Request(scope, receive))
        except ProblemError as problem:
            response = problem.response()
        except ClientDisconnect:
            response = Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - a defect of ours: said, logged, and survived
            _log.error("request_failed", route=self.path, exc_info=error)
            response = ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of the storefront; it is logged"
            ).response()
        self._seconds.observe(time.perf_counter() - started)
        self._count(response.status_code)
        await response(scope, receive, send)

    def _count(self, status: int) -> None:
        count = self._counts.get(status)
        if count is None:
            count = self._counts[status] = REQUESTS.labels(self.path, str(status))
        count.inc()


def _head_of_stream() -> Response:
    response = Response(media_type=EVENT_STREAM)
    del response.headers["content-length"]
    return response


def route(method: str, path: str, serve: Serve, says: Says) -> Route:
    """The route that serves `method` on `path`."""
    return Route(path, Endpoint(path, serve, says), methods=[method])
