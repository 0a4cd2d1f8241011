"""What payment's own port refuses before it asks the database."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import httpx
import pytest

from payment.api import PAYMENTS_AT_MOST, PaymentsApi
from shared.admin import admin_app


def client(pool: Any = None) -> httpx.AsyncClient:
    """A client of the routes; without a pool, whoever asks the database fails."""
    transport = httpx.ASGITransport(admin_app({}, PaymentsApi(pool, lambda: "closed").routes()))
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


class HangingPool:
    """Gives out a connection that never answers."""

    def acquire(self, *, timeout: float) -> Self:
        return self

    def transaction(self, **_: Any) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch(self, *_: Any) -> None:
        await asyncio.Event().wait()

    fetchrow = fetch


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        (f"limit={PAYMENTS_AT_MOST + 1}", "limit"),
        ("after=a%20b", "after"),
        ("after=C%00", "after"),
        ("state=PAID", "state"),
        ("open=maybe", "open"),
        ("kind=charge", "kind"),
        ("oldest=true", "Value error, oldest goes with open"),
        ("open=true&oldest=true&after=o-1", "Value error, oldest goes with open"),
    ],
)
async def test_a_page_that_is_none_is_a_problem_with_its_field(query: str, field: str) -> None:
    async with client() as admin:
        answer = await admin.get(f"/payments?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (400, "Invalid page")
    assert problem["detail"].removeprefix(": ").startswith(field)


@pytest.mark.parametrize(
    ("method", "path", "title"),
    [
        ("GET", "/payments/{}", "Unknown payment"),
        ("POST", "/payments/{}/ask", "Unknown payment"),
        ("GET", "/wallets/{}", "Unknown wallet"),
    ],
)
@pytest.mark.parametrize("name", ["a b", "C%00", "x" * 65, "'; drop table payment --"])
async def test_f68_what_is_no_id_is_unknown(method: str, path: str, title: str, name: str) -> None:
    async with client() as admin:
        answer = await admin.request(method, path.format(name))
    assert (answer.status_code, answer.json()["title"]) == (404, title)


async def test_nothing_is_asked_anew_by_a_get() -> None:
    async with client() as admin:
        answer = await admin.get("/payments/o-1/ask")
    assert answer.status_code == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/payments"),
        ("GET", "/payments?open=true"),
        ("GET", "/payments/o-1"),
        ("POST", "/payments/o-1/ask"),
        ("GET", "/gateway"),
        ("GET", "/wallets/ann"),
    ],
)
async def test_f44_a_database_that_hangs_is_told_in_time(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.admin.ANSWER_WITHIN_S", 0.01)
    async with client(HangingPool()) as admin:
        answer = await asyncio.wait_for(admin.request(method, path), timeout=5)
    assert (answer.status_code, answer.json()["title"]) == (503, "Unavailable")
