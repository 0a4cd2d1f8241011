"""The HTTP application: its routes, its OpenAPI document, and what is no route."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from storefront.describing import document_of
from storefront.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request


def application(routes: Sequence[Route]) -> Starlette:
    """The storefront's routes as an ASGI application."""
    document = document_of(routes)

    async def describe(request: Request) -> Response:
        return JSONResponse(document)

    app = Starlette(
        routes=[*routes, Route("/openapi.json", describe)],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    what = "no such path; see /openapi.json"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        what = f"no {request.method} on this path"
    return ProblemError(status, what, headers=error.headers).response()
