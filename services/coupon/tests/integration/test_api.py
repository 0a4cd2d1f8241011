"""Campaigns, their statistics and the entries of lotteries, on Postgres."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from coupon.api import CampaignsApi, queries
from shared.admin import admin_app
from shared.contracts import lottery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import Coupons

SEED = "5eed" * 16
AGO, AHEAD = "now() - interval '1 hour'", "now() + interval '1 hour'"


@pytest.fixture
async def admin(coupons: Coupons) -> AsyncIterator[httpx.AsyncClient]:
    """The routes on the test's database."""
    app = admin_app({}, CampaignsApi(coupons.pool).routes())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://admin"
    ) as client:
        yield client


async def campaign(coupons: Coupons, coupon_id: str, **columns: str) -> None:
    """A row; `columns` are SQL, in the place of what an open campaign has."""
    row = {
        "coupon_id": f"'{coupon_id}'", "kind": "'first_come'", "coupon_limit": "10",
        "issued": "0", "discount_type": "'fixed'", "discount_value": "500", "currency": "'KRW'",
    } | columns  # fmt: skip
    await coupons.pool.execute(
        f"INSERT INTO campaign ({', '.join(row)}) VALUES ({', '.join(row.values())})"
    )


async def lottery_of(coupons: Coupons, coupon_id: str, **columns: str) -> None:
    hashed = f"'{lottery.seed_hash(SEED)}'"
    if "drawn_at" in columns:
        columns["seed"] = f"'{SEED}'"
    await campaign(
        coupons, coupon_id, kind="'lottery'", seed_hash=hashed, entries_hash="'0'", **columns
    )
    await coupons.pool.execute("INSERT INTO lottery_seed VALUES ($1, $2)", coupon_id, SEED)


async def pages(admin: httpx.AsyncClient, path: str, key: str, **asked: Any) -> list[list[str]]:
    """The ids of each page, to the last one."""
    name, found = path.rpartition("/")[2], []
    while True:
        answer = (await admin.get(path, params=asked)).json()
        found.append([one[key] for one in answer[name]])
        if answer["next"] is None:
            return found
        asked["after"] = answer["next"]


@pytest.mark.parametrize("name", [statement.name for statement in queries])
async def test_every_statement_fits_the_schema(name: str, coupons: Coupons) -> None:
    async with coupons.pool.acquire() as connection:
        await connection.prepare(getattr(queries, name).sql)


async def test_pages_hold_each_campaign_once_in_key_order(
    admin: httpx.AsyncClient, coupons: Coupons
) -> None:
    ids = [f"C{number:02}" for number in range(7)]
    for one in ids[::-1]:
        await campaign(coupons, one)
    assert await pages(admin, "/campaigns", "couponId", limit=3) == [ids[:3], ids[3:6], ids[6:]]
    assert await pages(admin, "/campaigns", "couponId", limit=7) == [ids, []]
    assert await pages(admin, "/campaigns", "couponId") == [ids]
    assert await pages(admin, "/campaigns", "couponId", after="C04") == [ids[5:]]
    assert await pages(admin, "/campaigns", "couponId", after="Z") == [[]]


async def test_a_life_is_told_by_the_clock_of_the_database(
    admin: httpx.AsyncClient, coupons: Coupons
) -> None:
    await campaign(coupons, "always")
    await campaign(coupons, "closed", starts_at=f"{AGO} - interval '1 h'", ends_at=AGO)
    await campaign(coupons, "draft", starts_at=AHEAD)
    await campaign(coupons, "now", starts_at=AGO, ends_at=AHEAD)
    await lottery_of(coupons, "drawn", ends_at=AGO, entered="3", drawn_at=AGO, winners="3")
    await lottery_of(coupons, "drawn-early", entered="3", drawn_at=AGO, winners="0")
    await lottery_of(coupons, "waits", ends_at=AGO, entered="3")
    lives = {
        one["couponId"]: one["life"] for one in (await admin.get("/campaigns")).json()["campaigns"]
    }
    assert lives == {
        "always": "open", "closed": "closed", "draft": "draft", "now": "open",
        "drawn": "drawn", "drawn-early": "drawn", "waits": "closed",
    }  # fmt: skip
    for life in ("draft", "open", "closed", "drawn"):
        wanted = sorted(one for one, its in lives.items() if its == life)
        found = await pages(admin, "/campaigns", "couponId", life=life, limit=1)
        assert list(chain(*found)) == wanted
    for one, life in lives.items():
        assert (await admin.get(f"/campaigns/{one}")).json()["life"] == life


async def test_a_campaign_is_told_as_it_was_put(admin: httpx.AsyncClient, coupons: Coupons) -> None:
    await campaign(
        coupons, "C", kind="'conditional'", issued="4", discount_type="'percent'",
        discount_value="10", discount_cap="5000", rule="'user.tier == \"gold\"'",
        starts_at="'2026-01-31 09:00Z'", ends_at="'2126-01-31 09:00Z'",
        expires_at="'2126-02-28 09:00Z'",
    )  # fmt: skip
    listed = {
        "couponId": "C", "kind": "conditional", "life": "open", "limit": 10, "issued": 4,
        "entered": 0, "left": 6,
        "discount": {"type": "percent", "value": 10, "cap": 5000, "currency": "KRW"},
        "startsAt": "2026-01-31T09:00:00.000Z", "endsAt": "2126-01-31T09:00:00.000Z",
        "expiresAt": "2126-02-28T09:00:00.000Z",
    }  # fmt: skip
    assert (await admin.get("/campaigns")).json() == {"campaigns": [listed], "next": None}
    assert (await admin.get("/campaigns/C")).json() == listed | {
        "coupons": {"issued": 0, "held": 0, "used": 0, "expired": 0},
        "winners": None, "drawnAt": None, "seedHash": None, "seed": None,
        "rule": 'user.tier == "gold"',
        "discountGranted": 0, "currency": "KRW", "firstIssuedAt": None, "lastIssuedAt": None,
    }  # fmt: skip


async def give(coupons: Coupons, coupon_id: str, *states: str, discount: int = 500) -> None:
    """A coupon in each state, each used or held one with its hold, a second after another."""
    for number, state in enumerate(states, 1):
        order = None if state == "ISSUED" else f"{coupon_id}-o{number}"
        await coupons.pool.execute(
            "INSERT INTO coupon (coupon_id, user_id, sequence, state, order_id, issued_at) VALUES"
            " ($1, $2, $3::integer, $4, $5,"
            "  '2026-01-31 09:00Z'::timestamptz + $3::integer * interval '1 s')",
            coupon_id, f"user_{number}", number, state, order,
        )  # fmt: skip
        if order:
            await coupons.pool.execute(
                "INSERT INTO coupon_hold (order_id, state, coupon_id, user_id, total, discount,"
                " refusal, used) VALUES ($1, $2, $3, $4, 1000, $5, NULL, $2 = 'USED')",
                order, state, coupon_id, f"user_{number}", discount,
            )  # fmt: skip


@pytest.mark.parametrize(
    ("expires_at", "told"),
    [
        ("NULL", {"issued": 2, "held": 1, "used": 3, "expired": 0}),
        (AHEAD, {"issued": 2, "held": 1, "used": 3, "expired": 0}),
        (AGO, {"issued": 0, "held": 1, "used": 3, "expired": 2}),
    ],
)
async def test_coupons_are_counted_by_state_and_held_or_used_ones_never_expire(
    admin: httpx.AsyncClient, coupons: Coupons, expires_at: str, told: dict[str, int]
) -> None:
    await campaign(coupons, "C", issued="6", expires_at=expires_at)
    await campaign(coupons, "other", issued="1")
    await give(coupons, "C", "USED", "ISSUED", "HELD", "USED", "ISSUED", "USED", discount=700)
    await give(coupons, "other", "USED", discount=1_000)
    await coupons.pool.execute(
        "INSERT INTO coupon_hold (order_id, state, coupon_id, user_id, total, discount, used)"
        " VALUES ('back', 'RESTORED', 'C', 'user_2', 1000, 900, true)"
    )
    found = (await admin.get("/campaigns/C")).json()
    assert found["coupons"] == told
    assert (found["discountGranted"], found["currency"]) == (3 * 700, "KRW")
    assert found["firstIssuedAt"] == "2026-01-31T09:00:01.000Z"
    assert found["lastIssuedAt"] == "2026-01-31T09:00:06.000Z"
    assert sum(found["coupons"].values()) == found["issued"]


async def test_a_drawn_lottery_tells_its_winners_and_has_no_coupon_left_for_others(
    admin: httpx.AsyncClient, coupons: Coupons
) -> None:
    await lottery_of(
        coupons, "L", issued="1", entered="3", winners="3", drawn_at="'2026-01-31 09:00Z'"
    )
    found = (await admin.get("/campaigns/L")).json()
    assert (found["limit"], found["entered"], found["winners"], found["left"]) == (10, 3, 3, 2)
    assert found["drawnAt"] == "2026-01-31T09:00:00.000Z"
    assert (found["seedHash"], found["seed"]) == (lottery.seed_hash(SEED), SEED)


async def enter(coupons: Coupons, coupon_id: str, *users: str) -> None:
    await coupons.pool.executemany(
        "INSERT INTO lottery_entry VALUES ($1, $2, $3, $4, '2026-01-31 09:00Z')",
        [
            (coupon_id, user, number, f"e-{user[::-1]}")
            for number, user in enumerate(users, start=1)
        ],
    )


async def test_entries_come_in_the_order_in_which_they_came(
    admin: httpx.AsyncClient, coupons: Coupons
) -> None:
    users = ["a", "B", "_x", "a-b", "ab", "user_10", "user_2", "Z", ".", "9"]
    await lottery_of(coupons, "L", entered="10")
    await lottery_of(coupons, "M", entered="1")
    await enter(coupons, "L", *users)
    await enter(coupons, "M", "c")
    path = "/lotteries/L/entries"
    assert list(chain(*await pages(admin, path, "userId", limit=3))) == users
    assert await pages(admin, path, "userId", limit=10) == [users, []]
    answer = (await admin.get(path, params={"after": 5, "limit": 1})).json()
    assert answer == {
        "entries": [
            {
                "number": 6, "userId": users[5], "commandId": f"e-{users[5][::-1]}",
                "enteredAt": "2026-01-31T09:00:00.000Z",
            }
        ],
        "next": 6,
    }  # fmt: skip


async def test_what_is_no_lottery_has_no_entries(
    admin: httpx.AsyncClient, coupons: Coupons
) -> None:
    await campaign(coupons, "C")
    await lottery_of(coupons, "L")
    answers = [await admin.get(f"/lotteries/{one}/entries") for one in ("C", "C404", "L")]
    assert [answer.status_code for answer in answers] == [404, 404, 200]
    assert answers[0].json()["detail"] == "the campaign C is first_come: nobody enters it"
    assert answers[1].json()["detail"] == "there is no campaign C404"
    assert answers[2].json() == {"entries": [], "next": None}
    unknown = await admin.get("/campaigns/C404")
    assert (unknown.status_code, unknown.json()["title"]) == (404, "Unknown campaign")


async def test_no_answer_holds_the_seed_before_the_draw(
    admin: httpx.AsyncClient, coupons: Coupons
) -> None:
    await lottery_of(coupons, "L", entered="1")
    await enter(coupons, "L", "user_1")
    for path in ("/campaigns", "/campaigns/L", "/lotteries/L/entries"):
        answer = await admin.get(path)
        assert answer.status_code == 200
        assert SEED not in answer.text
