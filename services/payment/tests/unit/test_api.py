"""What payment's own port refuses before it asks the database."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import httpx
import pytest

from payment.api import PAYMENTS_AT_MOST, PaymentsApi
from shared.acting import MAX_BODY_BYTES
from shared.admin import admin_app


async def close(order_id: str, operator: str, note: str) -> tuple[str, ...]:
    """Never answers."""
    await asyncio.Event().wait()
    return ()


def client(pool: Any = None) -> httpx.AsyncClient:
    """A client of the routes; without a pool, whoever asks the database fails."""
    routes = PaymentsApi(pool, lambda: "closed", close).routes()
    transport = httpx.ASGITransport(admin_app({}, routes))
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


class HangingPool:
    """Gives out a connection that never answers."""

    def acquire(self, **_: float) -> Self:
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
        ("POST", "/payments/{}/close", "Unknown payment"),
        ("GET", "/wallets/{}", "Unknown wallet"),
    ],
)
@pytest.mark.parametrize("name", ["a b", "C%00", "x" * 65, "'; drop table payment --"])
async def test_f68_what_is_no_id_is_unknown(method: str, path: str, title: str, name: str) -> None:
    async with client() as admin:
        answer = await admin.request(method, path.format(name))
    assert (answer.status_code, answer.json()["title"]) == (404, title)


@pytest.mark.parametrize("action", ["ask", "close"])
async def test_nothing_is_done_by_a_get(action: str) -> None:
    async with client() as admin:
        answer = await admin.get(f"/payments/o-1/{action}")
    assert answer.status_code == 405


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "{", "[" * 10_000,
        '{"operator": "ann"}', '{"note": "why"}', '{"operator": "", "note": "why"}',
        '{"operator": "ann", "note": ""}', '{"operator": "ann", "note": "\\u0000"}',
        '{"operator": "ann", "note": "why", "outcome": "REFUSED"}',
        '{"operator": "ann", "note": "%s"}' % ("x" * 501),
        '{"operator": "%s", "note": "why"}' % ("x" * 65),
    ],
    ids=lambda body: body[:40],
)  # fmt: skip
async def test_a_close_without_who_and_why_is_a_problem(body: str) -> None:
    async with client() as admin:
        answer = await admin.post("/payments/o-1/close", content=body)
    assert (answer.status_code, answer.json()["title"]) == (400, "Invalid action")
    assert answer.json()["detail"]


async def test_a_body_that_is_too_large_is_not_read() -> None:
    async with client() as admin:
        answer = await admin.post("/payments/o-1/close", content="x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/payments"),
        ("GET", "/payments?open=true"),
        ("GET", "/payments/o-1"),
        ("POST", "/payments/o-1/ask"),
        ("POST", "/payments/o-1/close"),
        ("GET", "/gateway"),
        ("GET", "/wallets/ann"),
    ],
)
async def test_f44_a_database_that_hangs_is_told_in_time(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.admin.ANSWER_WITHIN_S", 0.01)
    async with client(HangingPool()) as admin:
        body = {"operator": "ann", "note": "why"}
        answer = await asyncio.wait_for(admin.request(method, path, json=body), timeout=5)
    assert (answer.status_code, answer.json()["title"]) == (503, "Unavailable")
