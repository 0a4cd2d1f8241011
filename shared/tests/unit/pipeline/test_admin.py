"""The admin port: alive without asking anyone, ready only with all it needs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import httpx

from shared.admin import admin_app

if TYPE_CHECKING:
    import pytest


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
    assert "# TYPE consumer_lag_records gauge" in answer.text
