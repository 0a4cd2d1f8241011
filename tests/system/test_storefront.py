"""Orders over HTTP, through all services: placed, paid, cancelled, sent again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from shared.testing.builders import grant_points, put_campaign, put_product
from shared.testing.signals import eventually
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.testing.storefronts import Storefront

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

    Start = Callable[..., Awaitable[Storefront]]

UNPAID_AT_MOST = 3
PROBLEM = "application/problem+json"


@pytest.fixture
async def front(storefront: Start) -> Storefront:
    """Nobody checks who asks."""
    return await storefront(UNPAID_AT_MOST=str(UNPAID_AT_MOST), CART_LINES_AT_MOST="2")


@pytest.fixture
async def ann(front: Storefront, user: str) -> AsyncIterator[Shopper]:
    """A user with money and coupons."""
    async with front.http() as client:
        yield Shopper(client, user)


PAID: dict[str, tuple[dict[str, Any], int]] = {
    "one line": ({}, 1_000),
    "several lines": ({"items": {"P003": 2, "P001": 1, "P002": 5}}, 8_000),
    "with a coupon": ({"items": {"P001": 3}, "couponId": "WELCOME10"}, 2_700),
    "free by its coupon": ({"items": {"P001": 2}, "couponId": "GIFT"}, 0),
    "free by its price": ({"items": {"FREE": 1}}, 0),
    "at the expected total": ({"expectedTotal": 1_000}, 1_000),
    "by the gateway": ({"payment": {"method": "gateway"}}, 1_000),
    "with a reference": ({"reference": "PO 4711 \N{SNOWMAN}"}, 1_000),
}

REFUSED: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]] | None]] = {
    "sold out": (
        {"items": {"P005": 4}}, "out_of_stock",
        [{"productId": "P005", "requested": 4, "available": 3}],
    ),
    "unknown product": (
        {"items": {"P999": 1}}, "unknown_product",
        [{"productId": "P999", "requested": 1, "available": 0}],
    ),
    "a coupon that nobody has": (
        {"couponId": "NOBODYS"}, "coupon_refused", [{"couponReason": "unknown_campaign"}]),
    "another price": ({"expectedTotal": 999}, "price_changed", []),
}  # fmt: skip


class TestOrders:
    @pytest.mark.parametrize("kind", PAID)
    async def test_placed_and_paid(self, ann: Shopper, kind: str) -> None:
        fields, total = PAID[kind]
        answer = await ann.place(**fields)
        assert (answer.status_code, answer.json()["status"]) == (200, "AWAITING_PAYMENT")
        order = answer.json()
        assert (order["total"], order["userId"]) == (total, ann.user_id)
        assert order.get("reference") == fields.get("reference")
        shown = (await ann.show(order["orderId"])).json()
        assert shown["status"] == "AWAITING_PAYMENT"
        paid = await ann.pay(order["orderId"])
        assert (paid.status_code, paid.json()["status"]) == (200, "CONFIRMED")
        assert paid.json()["total"] == total
        again = await ann.pay(order["orderId"])
        assert (again.status_code, again.json()["status"]) == (200, "CONFIRMED")

    async def test_paid_at_once(self, ann: Shopper) -> None:
        answer = await ann.place(pay="now")
        assert (answer.status_code, answer.json()["status"]) == (200, "CONFIRMED")
        too_late = await ann.cancel(answer.json()["orderId"])
        assert (too_late.status_code, too_late.json()["reason"]) == (409, "too_late")

    async def test_paid_in_part_by_points(self, shop: Shop, ann: Shopper) -> None:
        await shop.stock_up(grant_points(ann.user_id, amount=400))
        paid = await ann.pay(await ann.placed(), payment={"method": "wallet", "points": 400})
        assert (paid.status_code, paid.json()["status"]) == (200, "CONFIRMED")

    @pytest.mark.parametrize("kind", REFUSED)
    async def test_refused(self, ann: Shopper, kind: str) -> None:
        fields, reason, details = REFUSED[kind]
        if kind == "another price":
            fields = fields | {"pay": "now"}
        answer = await ann.place(**fields)
        assert (answer.status_code, answer.headers["content-type"]) == (409, PROBLEM)
        problem = answer.json()
        assert (problem["reason"], problem["order"]["details"]) == (reason, details)
        shown = (await ann.show(problem["orderId"])).json()
        assert (shown["status"], shown["reason"]) == ("REJECTED", reason)

    async def test_too_little_money_ends_the_order(self, ann: Shopper) -> None:
        order_id = await ann.placed({"P001": 2_000})
        for _ in range(2):
            paid = await ann.pay(order_id)
            assert (paid.status_code, paid.json()["reason"]) == (409, "insufficient_balance")
            assert paid.json()["order"]["status"] == "REJECTED"

    async def test_cancelled(self, ann: Shopper) -> None:
        order_id = await ann.placed({"P005": 3})
        for _ in range(2):
            cancelled = await ann.cancel(order_id, reason="too much")
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
            assert cancelled.json()["note"] == "too much"
        paid = await ann.pay(order_id)
        assert (paid.status_code, paid.json()["reason"]) == (409, "cancelled_by_user")

    async def test_what_is_paid_can_not_be_cancelled(self, ann: Shopper) -> None:
        order_id = await ann.placed()
        await ann.pay(order_id)
        answer = await ann.cancel(order_id)
        assert (answer.status_code, answer.json()["reason"]) == (409, "too_late")
        assert answer.json()["orderId"] == order_id

    async def test_an_order_that_is_not_there_or_anothers(self, ann: Shopper) -> None:
        order_id = await ann.placed()
        stranger = Shopper(ann.client, "stranger")
        for asked, who in ((order_id, stranger), ("o-nothing", ann), ("a!b", ann)):
            for answer in (await who.pay(asked), await who.pay(asked, key="k"),
                           await who.cancel(asked)):  # fmt: skip
                assert (answer.status_code, answer.json()["reason"]) == (404, "unknown"), asked
        for unknown in ("o-nothing", "a!b", "%0a", "%00", "..%2f..%2fetc"):
            assert (await ann.show(unknown)).status_code == 404
        assert (await ann.show(order_id)).json()["status"] == "AWAITING_PAYMENT"

    async def test_what_only_all_lines_together_can_be(self, ann: Shopper) -> None:
        line = {"productId": "P001", "quantity": 6_000}
        answer = await ann.post("/api/orders", items=[line, line])
        assert answer.status_code == 400
        assert "12000 units of P001 in sum" in answer.json()["detail"]


class TestKeys:
    async def test_f29_the_same_request_again_is_one_order(self, shop: Shop, ann: Shopper) -> None:
        first = await ann.place({"P001": 2}, key="a key")
        again = [await ann.place({"P001": 2}, key="a-key") for _ in range(3)]
        assert first.status_code == 400, "a key has no blanks"
        assert {answer.status_code for answer in again} == {200}
        (order_id,) = {answer.json()["orderId"] for answer in again}
        placed = "SELECT count(*) FROM orders.saga WHERE user_id = $1"
        assert await shop.value(placed, ann.user_id) == 1
        other = await ann.place({"P001": 3}, key="a-key")
        assert (other.status_code, other.json()["orderId"]) == (422, order_id)
        assert other.json()["reason"] == "order_id_reused"
        assert (await ann.place({"P001": 2}, key="another-key")).json()["orderId"] != order_id

    async def test_f29_a_refusal_is_said_again(self, ann: Shopper) -> None:
        answers = [await ann.place({"P005": 4}, key="a-key") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [409, 409]
        assert answers[0].json() == answers[1].json()

    async def test_f29_users_share_no_keys(self, front: Storefront, ann: Shopper) -> None:
        bob = Shopper(ann.client, f"{ann.user_id}-bob")
        ids = {(await each.place(key="a-key")).json()["orderId"] for each in (ann, bob)}
        assert len(ids) == 2

    async def test_f29_what_is_in_flight_is_not_asked_twice(self, shop: Shop, ann: Shopper) -> None:
        stock = shop.instances["stock-0"]
        stock.freeze()
        placed = "SELECT count(*) FROM orders.saga WHERE user_id = $1"
        first = asyncio.create_task(ann.place(key="a-key"))
        await eventually(lambda: shop.value(placed, ann.user_id), describe="the first is under way")
        answer = await ann.place(key="a-key")
        assert (answer.status_code, answer.json()["reason"]) == (409, "in_flight")
        assert int(answer.headers["retry-after"]) >= 1
        stock.thaw()
        assert (await first).status_code in (200, 409)
        await eventually(
            lambda: ann.place(key="a-key"),
            within_s=60,
            describe="the order is there",
            accept=lambda answer: answer.status_code == 200,
        )
        assert await shop.value(placed, ann.user_id) == 1

    async def test_f29_a_payment_under_its_key(self, ann: Shopper) -> None:
        order_id = await ann.placed()
        for _ in range(3):
            paid = await ann.pay(order_id, key="a-key")
            assert (paid.status_code, paid.json()["status"]) == (200, "CONFIRMED")
        other = await ann.pay(order_id, key="a-key", payment={"method": "gateway"})
        assert (other.status_code, other.json()["reason"]) == (422, "command_id_reused")
        twice = await ann.pay(order_id, key="another-key")
        assert (twice.status_code, twice.json()["reason"]) == (409, "already_paid")


class TestUnpaid:
    async def test_a_user_has_so_many_unpaid_orders(self, ann: Shopper) -> None:
        orders = [await ann.placed(key=f"k-{number}") for number in range(UNPAID_AT_MOST)]
        refused = await ann.place()
        assert (refused.status_code, refused.json()["reason"]) == (429, "too_many_unpaid")
        assert int(refused.headers["retry-after"]) > 0
        again = await ann.place(key="k-0")
        assert (again.status_code, again.json()["orderId"]) == (200, orders[0])
        await ann.pay(orders[0])
        await ann.placed()
        assert (await ann.place()).status_code == 429
        await ann.cancel(orders[1])
        assert (await ann.place(pay="now")).json()["status"] == "CONFIRMED"
        await ann.placed()
        # what has ended is known by its key, whatever else waits
        assert (await ann.place(key="k-0")).json()["status"] == "CONFIRMED"

    async def test_what_was_paid_elsewhere_is_looked_up(self, shop: Shop, ann: Shopper) -> None:
        orders = [await ann.placed() for _ in range(UNPAID_AT_MOST)]
        await shop.act(orders[0], "cancel")
        await shop.outcome(orders[0])
        await ann.placed()
        assert (await ann.place()).status_code == 429

    async def test_what_never_came_to_be_is_forgotten(self, shop: Shop, ann: Shopper) -> None:
        key = f"storefront:unpaid:{ann.user_id}"
        async with Redis.from_url(shop.redis_url, decode_responses=True) as redis:
            keep_ms = 960_000
            now_ms = await redis.time()
            now_ms = now_ms[0] * 1_000
            await redis.zadd(
                key,
                {"o-old": now_ms + keep_ms - 200_000, "o-older": now_ms + keep_ms - 300_000,
                 "o-new": now_ms + keep_ms - 1_000},
            )  # fmt: skip
            await ann.placed()
            assert set(await redis.zrange(key, 0, -1)) & {"o-old", "o-older", "o-new"} == {"o-new"}


class TestCarts:
    async def test_a_cart_is_filled_renewed_and_ordered(self, shop: Shop, ann: Shopper) -> None:
        for _ in range(2):
            answer = await ann.post("/api/cart", productId="P001", quantity=2)
            assert answer.status_code == 200
        await ann.post("/api/cart", productId="P002", quantity=1)
        items = [{"productId": "P001", "quantity": 2}, {"productId": "P002", "quantity": 1}]
        assert (await ann.cart()).json() == {"userId": ann.user_id, "items": items}
        full = await ann.post("/api/cart", productId="P003", quantity=1)
        assert (full.status_code, full.json()["reason"]) == (409, "cart_full")
        changed = await ann.post("/api/cart", productId="P002", quantity=3)
        assert changed.json()["items"][1]["quantity"] == 3
        async with Redis.from_url(shop.redis_url, decode_responses=True) as redis:
            key = f"storefront:cart:{ann.user_id}"
            await redis.expire(key, 60)
            await ann.cart()
            assert 3_500 < await redis.ttl(key) <= 3_600
            await redis.expire(key, 60)
            await ann.post("/api/cart", productId="P001", quantity=4)
            assert 3_500 < await redis.ttl(key) <= 3_600
        await ann.placed({"P001": 1})
        assert [item["productId"] for item in (await ann.cart()).json()["items"]] == ["P002"]
        await ann.place({"P002": 10_000})
        assert len((await ann.cart()).json()["items"]) == 1, "what was refused stays in the cart"
        emptied = await ann.client.delete("/api/cart", params={"userId": ann.user_id})
        assert (emptied.status_code, emptied.content) == (204, b"")
        assert (await ann.cart()).json()["items"] == []

    async def test_whose_cart_must_be_said(self, ann: Shopper) -> None:
        assert (await ann.client.get("/api/cart")).status_code == 400
        assert (await ann.client.get("/api/cart?userId=a%00b")).status_code == 400


class TestCoupons:
    async def test_a_coupon_is_issued_once(self, shop: Shop, ann: Shopper) -> None:
        coupon_id = f"RUSH-{ann.user_id}"
        await shop.stock_up(put_campaign(coupon_id, limit=1, percent=10))
        path = f"/api/coupons/{coupon_id}/issue"
        first = await ann.post(path)
        assert (first.status_code, first.json()["sequence"]) == (200, 1)
        assert (await ann.post(path)).json() == first.json()
        late = await Shopper(ann.client, f"{ann.user_id}-late").post(path)
        assert (late.status_code, late.json()["reason"]) == (409, "sold_out")

    async def test_a_lottery_is_entered(self, shop: Shop, ann: Shopper) -> None:
        coupon_id = f"DRAW-{ann.user_id}"
        await shop.stock_up(put_campaign(coupon_id, limit=1, percent=10, kind="lottery"))
        path = f"/api/lotteries/{coupon_id}/entries"
        answers = [await ann.post(path) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
        wrong = await ann.post(f"/api/coupons/{coupon_id}/issue")
        assert wrong.status_code == 409

    async def test_a_campaign_that_is_not_there(self, ann: Shopper) -> None:
        for path in ("/api/coupons/{}/issue", "/api/lotteries/{}/entries"):
            for coupon_id in ("NOTHING", "a!b"):
                answer = await ann.post(path.format(coupon_id))
                assert (answer.status_code, answer.json()["reason"]) == (404, "unknown")


async def test_f67_nobody_names_a_price(shop: Shop, ann: Shopper) -> None:
    await shop.stock_up(put_product(f"DEAR-{ann.user_id}", quantity=5, price=7_000))
    line = {"productId": f"DEAR-{ann.user_id}", "quantity": 1, "unitPrice": 1, "price": 1}
    answer = await ann.post(
        "/api/orders", items=[line], total=1, discount=6_999, status="CONFIRMED", orderId="o-mine",
        version=99,
    )  # fmt: skip
    order = answer.json()
    assert (order["status"], order["total"], order["discount"]) == ("AWAITING_PAYMENT", 7_000, 0)
    assert order["orderId"] != "o-mine"
