"""Pages of levels on Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shared.admin import admin_app
from shared.contracts.stock import StockLevel
from shared.testing.builders import put_product, reserve_stock, set_stock_strategy
from stock.api import LevelsApi
from stock.store import Store
from stock.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Pool

    from .conftest import Replica

LOW_UNITS = 10


@pytest.fixture
async def admin(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """The routes on the test's database."""
    app = admin_app({}, LevelsApi(pool, low_stock_units=LOW_UNITS).routes())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://admin"
    ) as client:
        yield client


async def pages(admin: httpx.AsyncClient, **asked: Any) -> list[list[str]]:
    """The ids of each page, to the last one."""
    found = []
    while True:
        answer = (await admin.get("/levels", params=asked)).json()
        found.append([level["productId"] for level in answer["levels"]])
        if answer["next"] is None:
            return found
        asked["after"] = answer["next"]


async def test_pages_hold_each_product_once_in_key_order(
    admin: httpx.AsyncClient, stock: Replica
) -> None:
    ids = [f"P{number:02}" for number in range(7)]
    await stock.run(*(put_product(one, quantity=20) for one in ids[::-1]))
    assert await pages(admin, limit=3) == [ids[:3], ids[3:6], ids[6:]]
    assert await pages(admin, limit=7) == [ids, []]
    assert await pages(admin) == [ids]
    assert await pages(admin, after="P04") == [ids[5:]]
    assert await pages(admin, after="Z") == [[]]


async def test_a_level_is_as_the_contract_says(admin: httpx.AsyncClient, stock: Replica) -> None:
    await stock.run(put_product("P001", quantity=20))
    await stock.run(reserve_stock("o-1", items={"P001": 2}))
    answer = await admin.get("/levels/P001")
    level = StockLevel.model_validate_json(answer.content)
    assert (level.available, level.reserved, level.received, level.version) == (18, 2, 20, 2)
    assert (await admin.get("/levels")).json()["levels"][0].keys() == answer.json().keys()


async def test_low_ones_alone(admin: httpx.AsyncClient, stock: Replica) -> None:
    for product_id, units in (("P1", 11), ("P2", 10), ("P3", 0), ("P4", 500)):
        await stock.run(put_product(product_id, quantity=units))
    assert await pages(admin, low="true") == [["P2", "P3"]]
    assert await pages(admin, low="true", limit=1) == [["P2"], ["P3"], []]
    assert (await admin.get("/levels")).json()["lowStockUnits"] == LOW_UNITS


@pytest.mark.parametrize("what", ["levels", "products"])
async def test_products_are_named_one_by_one(
    admin: httpx.AsyncClient, stock: Replica, what: str
) -> None:
    """Those that are there, of all that are asked for, as they stand on the page."""
    await stock.run(*(put_product(one, quantity=20) for one in ("P1", "P2", "P3")))
    asked = [("id", "P3"), ("id", "P404"), ("id", "P1")]
    found = (await admin.get(f"/{what}", params=asked)).json()
    assert found["next"] is None
    page = (await admin.get(f"/{what}")).json()[what]
    told = {one["productId"]: one["available"] for one in found[what]}
    assert told == {one["productId"]: one["available"] for one in (page[0], page[2])}
    assert found[what][0].keys() == page[0].keys()


async def test_a_page_of_the_catalogue_is_as_the_products(
    admin: httpx.AsyncClient, stock: Replica
) -> None:
    await stock.run(*(put_product(one, quantity=20, price=7, name="Lamp") for one in ("P2", "P1")))
    assert (await admin.get("/products?limit=1")).json() == {
        "products": [
            {"productId": "P1", "name": "Lamp", "price": 7, "currency": "KRW", "available": 20,
             "version": 1}
        ],
        "next": "P1",
    }  # fmt: skip
    rest = (await admin.get("/products?after=P1")).json()
    assert ([one["productId"] for one in rest["products"]], rest["next"]) == (["P2"], None)


async def test_an_unknown_product_is_a_problem(admin: httpx.AsyncClient) -> None:
    for path in ("/levels/P404", "/products/P404"):
        answer = await admin.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (404, "there is no product P404")


async def test_advice_is_told_of_contended_products_and_of_those_that_may_go_back(
    admin: httpx.AsyncClient, stock: Replica, pool: Pool
) -> None:
    assert (await admin.get("/advice")).json() == {"windowS": 60, "products": []}
    await stock.run(
        put_product("P1"), put_product("P2", strategy="redis"), put_product("quiet"),
        put_product("back", strategy="redis"),
    )  # fmt: skip
    await stock.run(set_stock_strategy("back", "auto"))
    async with pool.acquire() as connection:
        await Store(connection).add_contention(
            {"P1": Tally(600, 60, 0, 9_000.0), "P2": Tally(6_000, 0, 5_900, 0.0)}
        )
    products = (await admin.get("/advice")).json()["products"]
    assert [(one["productId"], one["activeStrategy"], one["advised"]) for one in products] == [
        ("P1", "optimistic", "pessimistic"), ("P2", "redis", "redis"),
        ("back", "redis", "optimistic"),
    ]  # fmt: skip
    assert (products[0]["commands"], products[0]["lockWaitMs"]) == (600, 9_000.0)
    assert "a queue does the work once" in products[0]["why"]
