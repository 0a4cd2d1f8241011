"""What the storefront keeps in Redis, carts and unpaid orders, and what it asks of campaigns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import Redis

from shared.testing.builders import put_campaign
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

UNPAID_AT_MOST = 3
"""As `front` is told."""


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
