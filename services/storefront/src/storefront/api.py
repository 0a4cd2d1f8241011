"""The HTTP application: its routes, its OpenAPI document, and what is no route."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

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
    if error.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
        detail = "no such path; see /openapi.json"
        return ProblemError(HTTPStatus.NOT_FOUND, detail, reason="unknown").response()
    allowed = {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }
    return ProblemError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"no {request.method} on this path",
        reason="wrong_method",
        headers={"allow": ", ".join(sorted(allowed))},
    ).response()
