"""The catalogue of several storefronts on one Valkey, before a stock that counts its loads."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.redis import Batched
from shared.testing.heard import level_heard, put_heard
from shared.testing.ports import ReservedPort
from shared.testing.serving import served
from shared.testing.signals import Gate
from storefront import catalogue, catalogue_api, common, listing, shelf
from storefront.api import application
from storefront.catalogue import STRANGE_PAGE_KEPT_S, Catalogue
from storefront.catalogue_api import CatalogueApi
from storefront.feed import Feed
from storefront.peers import Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from shared.testing.valkey import Valkey

CROWD = 500
"""For each of two storefronts."""
KEEP_S, HOT_S = 300.0, 60.0
PAUSE_MS = 600
"""Shorter than Redis is waited for."""


class Stock:
    """Answers what it is told to, and counts what it is asked."""

    def __init__(self) -> None:
        self.products: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.gate: Gate | None = None
        self.away = False
        self.nonsense = False

    def put(self, product_id: str = "P001", *, price: int = 5, available: int = 9) -> None:
        """Stock commits; nobody has heard of it yet."""
        version = self.products.get(product_id, {"version": 0})["version"] + 1
        self.products[product_id] = {
            "productId": product_id, "name": "Lamp", "price": price, "currency": "KRW",
            "available": available, "version": version,
        }  # fmt: skip

    async def answer(self, request: Request) -> Response:
        self.asked += 1
        asked = request.query_params
        found = [
            one for name, one in sorted(self.products.items()) if name > asked.get("after", "")
        ]
        following = None
        if ids := asked.getlist("id"):
            found = [one for one in found if one["productId"] in ids]
        elif len(found) >= (limit := int(asked["limit"])):
            found = found[:limit]
            following = found[-1]["productId"]
        answer = JSONResponse({"products": found, "next": following})  # as it is now
        if self.gate is not None:
            await self.gate.stop()
        if self.nonsense:
            return Response(b'{"products":[{"\xff')
        return Response(status_code=503) if self.away else answer


class Storefront:
    """One of them, without its process, which listens since a second ago."""

    def __init__(self, redis_url: str, stock_url: str) -> None:
        self.ahead_s = -1.0
        self.feed = Feed(self.clock)
        self.feed.follow()
        self.ahead_s = 0.0
        self.redis = Batched(redis_url, "storefront")
        self.stock = Peer("stock", stock_url)
        self.catalogue = Catalogue(
            self.stock, self.redis, self.feed, keep_s=KEEP_S, hot_s=HOT_S, clock=self.clock
        )
        app = application(CatalogueApi(self.catalogue).routes())
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://storefront"
        )

    def clock(self) -> float:
        return time.monotonic() + self.ahead_s

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def price(self, product_id: str = "P001") -> int:
        price: int = (await self.get(f"/api/products/{product_id}")).json()["price"]
        return price

    async def page(self, query: str = "") -> list[tuple[str, int, int]]:
        answer = await self.get(f"/api/products{query}")
        assert answer.status_code == 200, answer.text
        return [(one["productId"], one["price"], one["available"])
                for one in answer.json()["products"]]  # fmt: skip

    def hears_put(self, product_id: str = "P001") -> None:
        self.feed.take_events([put_heard(product_id)])

    async def close(self) -> None:
        await self.http.aclose()
        await self.stock.close()
        await self.redis.close()


class Shop:
    """Storefronts before one stock."""

    def __init__(self, redis_url: str, stock: Stock, stock_port: int) -> None:
        self.redis_url = redis_url
        self.stock = stock
        self._stock_url = f"http://127.0.0.1:{stock_port}"
        self._closing = AsyncExitStack()

    def storefront(self, redis_url: str | None = None) -> Storefront:
        storefront = Storefront(redis_url or self.redis_url, self._stock_url)
        self._closing.push_async_callback(storefront.close)
        return storefront

    async def close(self) -> None:
        await self._closing.aclose()


@pytest.fixture
async def shop(valkey: Valkey) -> AsyncIterator[Shop]:
    stock = Stock()
    stock.put()
    async with served(Starlette(routes=[Route("/products", stock.answer)])) as port:
        shop = Shop(valkey.url, stock, port)
        yield shop
        await shop.close()


@pytest.mark.parametrize("what", ["page", "product"])
async def test_a_crowd_before_two_storefronts_makes_one_load(
    shop: Shop, valkey: Valkey, what: str
) -> None:
    """At first, and once the time of what was kept is over, here and in Valkey."""
    both = shop.storefront(), shop.storefront()
    for loads in (1, 2):
        gate = shop.stock.gate = Gate()
        asked = [
            one.catalogue.page("", 20) if what == "page" else one.catalogue.product("P001")
            for one in both
            for _ in range(CROWD)
        ]
        crowd = asyncio.gather(*asked)
        await gate.reached()
        gate.open()
        assert all(b"P001" in shown.value.body and not shown.over_s for shown in await crowd)
        assert shop.stock.asked == loads
        await valkey.client.flushdb()
        for each in both:
            each.ahead_s += KEEP_S


async def test_what_one_loaded_others_take_until_it_is_put(shop: Shop) -> None:
    one, other = shop.storefront(), shop.storefront()
    assert [await one.price(), await other.price(), shop.stock.asked] == [5, 5, 1]
    shop.stock.put(price=6)
    one.hears_put()
    assert [await one.price(), shop.stock.asked] == [6, 2]
    assert await other.price() == 5, "it hasn't heard"
    other.hears_put()
    assert [await other.price(), shop.stock.asked] == [6, 3], "loaded before it heard"
    assert [await one.price(), await other.price(), shop.stock.asked] == [6, 6, 3]


async def test_a_loader_that_began_before_a_put_brings_nothing_old_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears of the put last of all, when it has written long since."""
    monkeypatch.setattr(common, "WAIT_S", 0.0)
    late, early = shop.storefront(), shop.storefront()
    gate = shop.stock.gate = Gate()
    old = asyncio.create_task(late.price())
    await gate.reached()
    shop.stock.put(price=6)
    shop.stock.gate = None
    early.hears_put()
    async with asyncio.timeout(30):
        assert await early.price() == 6
    gate.open()
    assert await old == 5
    third = shop.storefront()
    late.hears_put()
    third.hears_put()
    prices = [await one.price() for one in (early, third, late)]
    assert prices == [6, 6, 6]


async def test_what_redis_takes_late_is_as_old_as_its_load(shop: Shop, valkey: Valkey) -> None:
    one, other = shop.storefront(), shop.storefront()
    gate = shop.stock.gate = Gate()
    old = asyncio.create_task(one.price())
    await gate.reached()
    shop.stock.put(price=6)
    other.hears_put()
    await valkey.client.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    gate.open()
    assert await old == 5
    assert await valkey.client.exists(f"{common.VALUE}product:P001")
    assert await other.price() == 6


async def test_a_loader_gives_back_no_lock_but_its_own(shop: Shop, valkey: Valkey) -> None:
    storefront, lock = shop.storefront(), f"{common.LOCK}product:P001"
    gate = shop.stock.gate = Gate()
    loading = asyncio.create_task(storefront.price())
    await gate.reached()
    assert await valkey.client.set(lock, "another's", px=common.LOCK_MS)
    gate.open()
    assert await loading == 5
    assert await valkey.client.get(lock) == "another's"


async def test_a_loader_that_hears_of_a_put_writes_nothing(shop: Shop, valkey: Valkey) -> None:
    storefront = shop.storefront()
    gate = shop.stock.gate = Gate()
    old = asyncio.create_task(storefront.price())
    await gate.reached()
    storefront.hears_put()
    gate.open()
    assert await old == 5
    assert await valkey.client.keys() == []
    shop.stock.put(price=6)
    assert await storefront.price() == 6


async def test_a_storefront_takes_nothing_from_before_it_listened(shop: Shop) -> None:
    """What moved meanwhile it can't know."""
    assert await shop.storefront().price() == 5
    shop.stock.put(price=6)
    late = shop.storefront()
    late.feed.follow()
    assert await late.price() == 6


async def test_who_loads_and_is_gone_is_waited_for_a_moment(
    shop: Shop, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "WAIT_S", 0.05)
    await valkey.client.set(f"{common.LOCK}product:P001", "somebody", px=common.LOCK_MS)
    assert await shop.storefront().price() == 5
    assert await valkey.client.get(f"{common.LOCK}product:P001") == "somebody"


async def test_all_that_lies_in_redis_ends_by_itself(shop: Shop, valkey: Valkey) -> None:
    storefront = shop.storefront()
    await storefront.page()
    await storefront.price()
    await storefront.get("/api/products/P404")
    keys = await valkey.client.keys()
    assert sorted(keys) == [f"{common.VALUE}page:20:", f"{common.VALUE}product:P001"]
    for key in keys:
        assert 0 < await valkey.client.pttl(key) < KEEP_S * 1000


async def test_what_another_version_wrote_is_loaded_anew(shop: Shop, valkey: Valkey) -> None:
    storefront = shop.storefront()
    await valkey.client.set(f"{common.VALUE}product:P001", '{"pages":1}', px=int(KEEP_S * 1000))
    assert await storefront.price() == 5


async def test_f54_without_redis_each_loads_for_itself(shop: Shop) -> None:
    with ReservedPort() as nobody:
        storefront = shop.storefront(f"redis://127.0.0.1:{nobody.port}/0")
        for _ in range(3):
            assert await storefront.page() == [("P001", 5, 9)]
        assert shop.stock.asked == 1
        storefront.hears_put()
        assert [await storefront.price(), shop.stock.asked] == [5, 2]


async def test_what_is_available_is_as_was_heard_last(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages and products, kept and taken from others, without a load."""
    monkeypatch.setattr(listing, "DRAWN_EVERY_S", 0.0)
    one, other = shop.storefront(), shop.storefront()
    shop.stock.put("P002")
    assert await one.page() == [("P001", 5, 9), ("P002", 5, 9)]
    await one.get("/api/products/P002")
    asked = shop.stock.asked
    for each in (one, other):
        each.feed.take_levels([level_heard("P002", 2, 4), level_heard("P003", 1, 7)])
    for each in (one, other):
        assert await each.page() == [("P001", 5, 9), ("P002", 5, 4)]
        assert (await each.get("/api/products/P002")).json()["available"] == 4
    assert shop.stock.asked == asked


async def test_a_product_that_nobody_knows_is_asked_for_once_until_it_is_put(shop: Shop) -> None:
    storefront = shop.storefront()
    for _ in range(3):
        answer = await storefront.get("/api/products/P002")
        assert (answer.status_code, answer.json()["reason"]) == (404, "unknown")
    assert shop.stock.asked == 1
    assert (await storefront.get("/api/products/no%20id")).status_code == 404
    assert shop.stock.asked == 1
    shop.stock.put("P002")
    storefront.hears_put("P002")
    assert await storefront.price("P002") == 5


async def test_pages_go_on_behind_the_product_that_they_say(shop: Shop) -> None:
    for number in range(1, 6):
        shop.stock.put(f"P{number:03}")
    storefront = shop.storefront()
    found, query = [], "?limit=2"
    while True:
        answer = (await storefront.get(f"/api/products{query}")).json()
        found.append([one["productId"] for one in answer["products"]])
        if answer["next"] is None:
            break
        query = f"?limit=2&after={answer['next']}"
    assert found == [["P001", "P002"], ["P003", "P004"], ["P005"]]


async def test_only_pages_that_somebody_was_led_to_lie_in_redis(shop: Shop, valkey: Valkey) -> None:
    for number in range(1, 6):
        shop.stock.put(f"P{number:03}")
    storefront = shop.storefront()
    for _ in range(2):
        for made_up in ("A", "P001", "P002"):
            assert len(await storefront.page(f"?limit=2&after={made_up}")) == 2
    assert shop.stock.asked == 3
    assert await valkey.client.keys() == []
    await storefront.page("?limit=2")
    storefront.ahead_s += STRANGE_PAGE_KEPT_S
    for after in ("A", "P002", "P004"):
        await storefront.page(f"?limit=2&after={after}")
    assert shop.stock.asked == 7
    keys = await valkey.client.keys()
    assert sorted(keys) == [f"{common.VALUE}page:2:{after}" for after in ("", "P002", "P004")]


async def test_what_leads_on_is_remembered_to_a_bound(
    shop: Shop, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "NEXTS_REMEMBERED", 1)
    shop.stock.put("P002")
    storefront = shop.storefront()
    for query in ("?limit=1", "?limit=2", "?limit=1&after=P001", "?limit=2&after=P002"):
        await storefront.page(query)
    keys = await valkey.client.keys()
    assert sorted(keys) == [f"{common.VALUE}page:{rest}" for rest in ("1:", "2:", "2:P002")]


async def test_long_queries_are_not_remembered(shop: Shop) -> None:
    storefront = shop.storefront()
    remembered = catalogue_api._remembered_page.cache_info
    await storefront.page("?limit=7")
    size = remembered().currsize
    for number in range(3):
        assert await storefront.page(f"?limit=7&x={number:060000}")
    assert remembered().currsize == size > 0


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=", "limit=-1", "limit=1e1", "limit=²", "after=",
              "after=a%20b", "limit=1&limit=999"],
)  # fmt: skip
async def test_a_page_that_is_none_is_a_problem(shop: Shop, query: str) -> None:
    answer = await shop.storefront().get(f"/api/products?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (400, "invalid_request")
    assert answer.json()["detail"].startswith(query.partition("=")[0])
    assert shop.stock.asked == 0


async def test_who_has_it_already_is_told_so(shop: Shop) -> None:
    storefront = shop.storefront()
    for price, path in enumerate(("/api/products", "/api/products/P001"), start=6):
        tag = (await storefront.get(path)).headers["etag"]
        answer = await storefront.get(path, **{"if-none-match": f'"other", W/{tag}'})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        shop.stock.put(price=price)
        storefront.hears_put()
        answer = await storefront.get(path, **{"if-none-match": tag})
        assert (answer.status_code, answer.headers["etag"] != tag) == (200, True)


@pytest.mark.parametrize("why", ["away", "nonsense"])
async def test_without_stock_the_old_is_shown_and_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Also where nobody understands what it says."""
    monkeypatch.setattr(shelf, "REST_S", 0.0)
    storefront = shop.storefront()
    await storefront.price()
    await storefront.get("/api/products/P404")
    setattr(shop.stock, why, True)
    for product_id in ("P001", "P404"):
        storefront.hears_put(product_id)
    answer = await storefront.get("/api/products/P001")
    assert (answer.status_code, answer.json()["price"]) == (200, 5)
    assert answer.headers["cache-status"].startswith("storefront; hit; ttl=-")
    assert answer.headers["age"].isdigit()
    for path in ("/api/products", "/api/products/P002", "/api/products/P404"):
        answer = await storefront.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        assert answer.json()["reason"] == "stock_away"
    setattr(shop.stock, why, False)
    answer = await storefront.get("/api/products/P001")
    assert "age" not in answer.headers
    assert "cache-status" not in answer.headers
