"""What stock's own port refuses before it asks the database."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import httpx
import pytest

from shared.admin import admin_app
from stock.api import LEVELS_AT_MOST, PRODUCTS_AT_MOST, LevelsApi


def client(pool: Any = None) -> httpx.AsyncClient:
    """A client of the routes; without a pool, whoever asks the database fails."""
    routes = LevelsApi(pool, low_stock_units=10).routes()
    transport = httpx.ASGITransport(admin_app({}, routes))
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


class HangingPool:
    """Gives out a connection that never answers."""

    def acquire(self, **_: float) -> HangingPool:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch(self, *_: Any) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        (f"limit={LEVELS_AT_MOST + 1}", "limit"),
        ("limit=many", "limit"),
        ("after=a%20b", "after"),
        ("after=P1%00", "after"),
        ("after=", "after"),
        ("low=perhaps", "low"),
        ("above=3", "above"),
    ],
)
async def test_a_page_that_is_none_is_a_problem_with_its_field(query: str, field: str) -> None:
    async with client() as admin:
        answer = await admin.get(f"/levels?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (400, "Invalid page")
    assert problem["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("path", ["levels", "products"])
@pytest.mark.parametrize("product_id", ["a b", "P1%00", "x" * 65, "'; drop table product --"])
async def test_what_is_no_product_id_is_unknown(path: str, product_id: str) -> None:
    async with client() as admin:
        answer = await admin.get(f"/{path}/{product_id}")
    assert (answer.status_code, answer.json()["title"]) == (404, "Unknown product")
    assert "is no product id" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["levels", "products"])
@pytest.mark.parametrize("ids", [["a b"], ["P1", ""], ["P1"] * (PRODUCTS_AT_MOST + 1)])
async def test_names_that_are_none_are_a_problem(path: str, ids: list[str]) -> None:
    async with client() as admin:
        answer = await admin.get(f"/{path}", params=[("id", one) for one in ids])
    assert (answer.status_code, answer.json()["title"]) == (400, "Invalid request")
    assert answer.json()["detail"] == f"id: 1 to {PRODUCTS_AT_MOST} product ids"


async def test_f44_a_database_that_hangs_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.admin.ANSWER_WITHIN_S", 0.01)
    async with client(HangingPool()) as admin:
        answer = await asyncio.wait_for(admin.get("/levels"), timeout=5)
    assert (answer.status_code, answer.json()["title"]) == (503, "Unavailable")
