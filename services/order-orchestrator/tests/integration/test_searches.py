"""Operators' searches on real rows: what is found, in which order, and that each is bounded."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from order_orchestrator import searching
from order_orchestrator.searching import SearchApi
from shared.admin import admin_app
from shared.database.pool import connect_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.databases import Database

# 60 orders of the past, one a minute, every third rejected; 9 under way, of which 4 are stuck.
ROWS = """
INSERT INTO saga (order_id, user_id, fingerprint, fingerprint_version, accepted_at, placed,
                  definition_version, state, version, told_version, told_at, progress, history,
                  waiting, timer_at, pending_since, stuck_since, stuck_why)
SELECT 'past-' || number, 'user_' || number % 5, decode(repeat('00', 16), 'hex'), 1,
       now() - number * interval '1 minute', '{}'::json, 1,
       CASE WHEN number % 3 = 0 THEN 'REJECTED' ELSE 'CONFIRMED' END, 1, 1, now(),
       CASE WHEN number % 3 = 0 THEN '{"ending": {"reason": "out_of_stock"}}' ELSE '{}' END::json,
       '', false, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL
FROM generate_series(1, 60) AS number
UNION ALL
SELECT 'late-' || number, 'user_1', decode(repeat('00', 16), 'hex'), 1,
       now() - interval '2 hours' - number * interval '1 minute', '{}'::json, 1,
       CASE WHEN number < 4 THEN 'COMPENSATING' WHEN number < 8 THEN 'CHARGING' ELSE 'PENDING' END,
       1, NULL, NULL,
       CASE WHEN number < 4 THEN '{"steps": {"reserve": "undoing", "hold": "skipped"}}'
            WHEN number = 4 THEN '{"steps": 5}' ELSE '{}' END::json,
       '', number BETWEEN 5 AND 7, CASE WHEN number BETWEEN 5 AND 7 THEN now() END,
       CASE WHEN number >= 8 THEN now() END,
       CASE WHEN number < 5 THEN now() - number * interval '1 second' END,
       CASE WHEN number < 4 THEN 'unanswered after 10 sends'
            WHEN number = 4 THEN 'unreadable: steps' END
FROM generate_series(1, 9) AS number
"""


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with database.connection("orders") as connection:
        await connection.execute(ROWS)
    pool = connect_pool(database.dsn("orders"), name="test", max_connections=2)
    transport = httpx.ASGITransport(admin_app({}, SearchApi(pool).routes()))
    async with pool, httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        yield client
    async with database.connection("orders") as connection:
        await connection.execute("DELETE FROM saga")


async def found(admin: httpx.AsyncClient, **asked: Any) -> list[str]:
    """Ids of all pages."""
    ids: list[str] = []
    while True:
        answer = await admin.get("/search", params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [order["orderId"] for order in page["orders"]]
        if page["next"] is None:
            return ids
        asked["cursor"] = page["next"]


PAST = [f"past-{number}" for number in range(1, 61)]
LATE = [f"late-{number}" for number in range(1, 10)]


async def test_all_orders_by_age_each_once(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = PAST + LATE
    for looked_at, limit in itertools.product([10, 1_000], [1, 7, 1_000]):
        monkeypatch.setattr(searching, "LOOKED_AT", looked_at)
        find = partial(found, admin, limit=limit)
        assert await find() == newest
        assert await find(newest_first=False) == newest[::-1]
        assert await find(states="REJECTED") == PAST[2::3]
        assert await find(user="user_4") == PAST[3::5]
        assert await find(reason="OUT_OF") == PAST[2::3]
        assert await find(reason="unanswered", older_than_s=7_290) == LATE[1:3]
        assert await find(reason="unanswered", newest_first=False) == LATE[2::-1]


async def test_a_look_is_bounded_and_says_how_far_it_came(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "LOOKED_AT", 10)
    page = (await admin.get("/search", params={"user": "nobody"})).json()
    tenth = (await admin.get("/search", params={"limit": 10})).json()["orders"][-1]
    assert (page["orders"], page["lookedTo"]) == ([], tenth["acceptedAt"])
    assert page["next"].endswith(f":{tenth['orderId']}")


async def test_what_is_under_way_and_what_is_stuck(admin: httpx.AsyncClient) -> None:
    for limit in (1, 2, 1_000):
        find = partial(found, admin, scope="under_way", limit=limit)
        assert await find() == LATE
        assert await find(newest_first=False) == LATE[::-1]
        assert await find(states="PENDING,CHARGING") == LATE[3:]
        assert await find(user="user_2") == []
        find = partial(found, admin, scope="stuck", limit=limit)
        assert await find(newest_first=False) == LATE[3::-1]
        assert await find() == LATE[:4]
        assert await find(reason="Unreadable") == ["late-4"]
        assert await find(older_than_s=7_350) == LATE[2:4]


async def test_what_got_stuck_later_is_left_out(admin: httpx.AsyncClient) -> None:
    page = (await admin.get("/search", params={"scope": "stuck", "newest_first": False})).json()
    second = page["orders"][1]["since"]
    for limit in (1, 1_000):
        older = partial(found, admin, scope="stuck", stuck_before=second, limit=limit)
        assert await older(newest_first=False) == ["late-4", "late-3"]
    asked = {"scope": "stuck", "stuck_before": second, "limit": 1}
    counts = (await admin.get("/search", params=asked)).json()["counts"]
    assert sum(one["orders"] for one in counts) == 2
    answer = (await admin.get("/search/stuck-groups", params={"stuck_before": second})).json()
    assert [(group["example"], group["orders"]) for group in answer["groups"]] == [
        ("late-4", 1), ("late-3", 1),
    ]  # fmt: skip
    for wrong in ("yesterday", "2026-11-27T16:00:00", "0001-01-01T00:00:00+14:00"):
        assert (await admin.get("/search", params={"stuck_before": wrong})).status_code == 400


async def test_stuck_orders_are_found_by_why_they_are_and_not_by_their_ending(
    admin: httpx.AsyncClient, database: Database
) -> None:
    async with database.connection("orders") as connection:
        await connection.execute(
            """UPDATE saga SET progress = '{"ending": {"reason": "out_of_stock"}}'
            WHERE order_id IN ('late-1', 'late-5')"""
        )
    assert await found(admin, scope="stuck", reason="stock") == []
    assert (await admin.get("/search/stuck-groups", params={"reason": "stock"})).json() == {
        "groups": [], "more": False,
    }  # fmt: skip
    asked = {"scope": "stuck", "reason": "stock"}
    assert (await admin.get("/search", params=asked)).json()["counts"] == []
    assert await found(admin, scope="under_way", reason="stock") == ["late-5"]
    assert await found(admin, reason="stock", limit=1_000) == [*PAST[2::3], "late-5"]


async def test_counts_are_of_all_that_match(admin: httpx.AsyncClient) -> None:
    page = (await admin.get("/search", params={"scope": "under_way", "limit": 1})).json()
    assert {(one["state"], one["why"]): one["orders"] for one in page["counts"]} == {
        ("COMPENSATING", "unanswered after 10 sends"): 3,
        ("CHARGING", None): 3,
        ("PENDING", None): 2,
        ("CHARGING", "unreadable: steps"): 1,
    }
    page = (await admin.get("/search", params={"scope": "stuck", "limit": 1})).json()
    assert sum(one["orders"] for one in page["counts"]) == 4


async def test_stuck_orders_are_grouped_by_why_and_what_is_out(admin: httpx.AsyncClient) -> None:
    answer = (await admin.get("/search/stuck-groups")).json()
    groups = [(one["why"], one["steps"], one["orders"], one["example"]) for one in answer["groups"]]
    assert groups == [
        ("unanswered after 10 sends", "reserve:undo", 3, "late-3"),
        ("unreadable: steps", None, 1, "late-4"),
    ]
    assert answer["more"] is False


async def test_a_search_that_takes_too_long_is_given_up(
    admin: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SEARCH_MS", 50)
    async with database.connection("orders") as connection, connection.transaction():
        await connection.execute("LOCK saga IN ACCESS EXCLUSIVE MODE")
        answer = await admin.get("/search")
    assert (answer.status_code, answer.json()["reason"]) == (503, "search_too_dear")
    assert "narrow it" in answer.json()["detail"]
    assert (await admin.get("/search")).status_code == 200
