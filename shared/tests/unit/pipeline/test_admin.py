"""The admin port: alive without asking anyone, ready only with all it needs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from shared.admin import admin_app
from shared.telemetry import metrics

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def client(**checks: str | Exception | None) -> httpx.AsyncClient:
    """A client of an admin port whose checks answer, raise, or (for "hang") never end."""

    async def run(answer: str | Exception | None) -> str | None:
        if answer == "hang":
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = admin_app({name: partial(run, answer) for name, answer in checks.items()})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin")


async def test_alive_asks_no_dependency() -> None:
    async with client(postgres="hang") as admin:
        assert (await admin.get("/livez")).status_code == 200


async def test_ready_with_all_that_is_needed() -> None:
    async with client(postgres=None, kafka=None) as admin:
        answer = await admin.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "checks": {"postgres": "ok", "kafka": "ok"}}


async def test_f44_f49_unready_says_which_dependency_and_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.admin.CHECK_TIMEOUT_S", 0.01)
    async with client(
        kafka="stock: no progress for 60 s on stock.commands.v1/3",
        postgres=ConnectionRefusedError("nobody there"),
        redis="hang",
        disk=None,
    ) as admin:
        answer = await admin.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "checks": {
            "kafka": "stock: no progress for 60 s on stock.commands.v1/3",
            "postgres": "ConnectionRefusedError: nobody there",
            "redis": "no answer in 0 s",
            "disk": "ok",
        },
    }


async def test_metrics_are_in_the_text_format() -> None:
    async with client() as admin:
        answer = await admin.get("/metrics")
    assert answer.status_code == 200
    (lag,) = metrics.LAG.describe()
    assert f"# TYPE {lag.name} gauge" in answer.text


def raising(error: Exception) -> httpx.AsyncClient:
    """A client of an admin port whose route `/orders` raises this."""

    async def orders(request: Request) -> Response:
        raise error

    app = admin_app({}, [Route("/orders", orders)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin")


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionRefusedError("nobody there"),
        asyncpg.CannotConnectNowError("it starts"),
        asyncpg.ConnectionDoesNotExistError("cut"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.DeadlockDetectedError("by a statement by hand"),
        asyncpg.SerializationError("the same"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.InterfaceError("pool is closing"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_f44_a_database_that_is_away_is_a_problem_and_no_defect(error: Exception) -> None:
    async with raising(error) as admin:
        answer = await admin.get("/orders")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "the database doesn't answer"


@pytest.mark.parametrize(
    "error", [asyncpg.UndefinedTableError("no such table"), KeyError("what")], ids=repr
)
async def test_a_defect_stays_one(error: Exception) -> None:
    async with raising(error) as admin:
        with pytest.raises(type(error)):
            await admin.get("/orders")


async def test_a_client_that_has_left_is_no_defect() -> None:
    async with raising(ClientDisconnect()) as admin:
        assert (await admin.get("/orders")).status_code == 400


async def test_what_is_not_served_is_a_problem_too() -> None:
    async with raising(KeyError()) as admin:
        nowhere, posted = await admin.get("/nowhere"), await admin.post("/orders")
    assert (nowhere.status_code, nowhere.json()["title"]) == (404, "Not Found")
    assert posted.status_code == 405
    assert set(posted.headers["allow"].split(", ")) == {"GET", "HEAD"}
