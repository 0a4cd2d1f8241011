"""What coupon's own port refuses before it asks the database."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import httpx
import pytest

from coupon.api import CAMPAIGNS_AT_MOST, ENTRIES_AT_MOST, CampaignsApi, queries
from shared.admin import admin_app


def client(pool: Any = None) -> httpx.AsyncClient:
    """A client of the routes; without a pool, whoever asks the database fails."""
    transport = httpx.ASGITransport(admin_app({}, CampaignsApi(pool).routes()))
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
        ("/campaigns?limit=0", "limit"),
        (f"/campaigns?limit={CAMPAIGNS_AT_MOST + 1}", "limit"),
        ("/campaigns?after=a%20b", "after"),
        ("/campaigns?after=C%00", "after"),
        ("/campaigns?life=dead", "life"),
        ("/campaigns?kind=lottery", "kind"),
        ("/lotteries/L/entries?limit=0", "limit"),
        (f"/lotteries/L/entries?limit={ENTRIES_AT_MOST + 1}", "limit"),
        ("/lotteries/L/entries?after=", "after"),
        ("/lotteries/L/entries?before=user_1", "before"),
    ],
)
async def test_a_page_that_is_none_is_a_problem_with_its_field(query: str, field: str) -> None:
    async with client() as admin:
        answer = await admin.get(query)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (400, "Invalid page")
    assert problem["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("path", ["/campaigns/{}", "/lotteries/{}/entries"])
@pytest.mark.parametrize("coupon_id", ["a b", "C%00", "x" * 65, "'; drop table campaign --"])
async def test_what_is_no_campaign_id_is_unknown(path: str, coupon_id: str) -> None:
    async with client() as admin:
        answer = await admin.get(path.format(coupon_id))
    assert (answer.status_code, answer.json()["title"]) == (404, "Unknown campaign")
    assert "is no campaign id" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/campaigns", "/campaigns/C", "/lotteries/L/entries"])
async def test_f44_a_database_that_hangs_is_told_in_time(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.admin.ANSWER_WITHIN_S", 0.01)
    async with client(HangingPool()) as admin:
        answer = await asyncio.wait_for(admin.get(path), timeout=5)
    assert (answer.status_code, answer.json()["title"]) == (503, "Unavailable")


def test_no_statement_reads_a_seed() -> None:
    statements = [statement.sql for statement in queries]
    assert statements
    assert not [sql for sql in statements if "lottery_seed" in sql]
