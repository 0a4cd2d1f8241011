"""An orchestrator's admin port that answers as a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from orderctl.admin_api import AdminApi

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[httpx.Request]]:
    """Lets the admin port answer by a function of the request, and returns what it was asked."""

    def start(reply: Callable[[httpx.Request], tuple[int, Any]]) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            status, body = reply(request)
            return httpx.Response(status, json=body)

        transport = httpx.MockTransport(handle)
        monkeypatch.setattr("orderctl.asking.AdminApi", lambda url: AdminApi(url, transport))
        return asked

    return start


@pytest.fixture
def answers(
    serve: Callable[..., list[httpx.Request]],
) -> Callable[[int, Any], list[httpx.Request]]:
    """Lets the admin port always answer so, and returns what it was asked."""
    return lambda status, body: serve(lambda _: (status, body))
