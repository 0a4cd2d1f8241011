"""Orders over HTTP, through all services: placed, paid, cancelled, sent again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from shared.testing.builders import grant_points, put_product
from shared.testing.signals import eventually
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.testing.storefronts import Storefront

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

    Start = Callable[..., Awaitable[Storefront]]

PROBLEM = "application/problem+json"


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

    async def test_f29_a_second_payment_is_told_apart_from_the_first(
        self, shop: Shop, storefront: Start, ann: Shopper
    ) -> None:
        order_id = await ann.placed()
        other = await storefront(ANSWER_WITHIN_S="20")
        payment = shop.instances["payment-0"]
        payment.freeze()
        first = asyncio.create_task(ann.pay(order_id, payment={"method": "wallet"}))
        await shop.until(order_id, state="CHARGING")
        async with other.http() as client:
            for who in (ann, Shopper(client, ann.user_id)):
                second = await who.pay(order_id, payment={"method": "gateway"})
                assert (second.status_code, second.json()["reason"]) == (409, "already_paid")
        payment.thaw()
        assert (await first).status_code in (200, 202), (await first).text
        await shop.until(order_id, state="CONFIRMED")
        again = await ann.pay(order_id, payment={"method": "gateway"})
        assert (again.status_code, again.json()["status"]) == (200, "CONFIRMED")

    async def test_f29_two_cancellations_are_one(self, shop: Shop, ann: Shopper) -> None:
        order_id = await ann.placed()
        stock = shop.instances["stock-0"]
        stock.freeze()
        first = asyncio.create_task(ann.cancel(order_id, reason="one"))
        await shop.until(order_id, state="COMPENSATING")
        second = asyncio.create_task(ann.cancel(order_id, reason="two"))
        stock.thaw()
        for answer in (await first, await second):
            assert (answer.status_code, answer.json()["status"]) == (200, "CANCELLED")
            assert answer.json()["note"] == "one"

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

    async def test_f29_two_storefronts_take_one_key_at_once(
        self, shop: Shop, storefront: Start, ann: Shopper
    ) -> None:
        """Neither knows of the other: the orchestrator decides whose order it is."""
        other = await storefront(ANSWER_WITHIN_S="20")
        async with other.http() as client:
            beside = Shopper(client, ann.user_id)
            for number in range(5):
                key = f"k-{number}"
                answers = await asyncio.gather(
                    ann.place({"P001": 1}, key=key, pay="now"),
                    beside.place({"P001": 1}, key=key, pay="now"),
                )
                assert {answer.status_code for answer in answers} <= {200, 409}
                for answer in answers:
                    assert answer.status_code == 200 or answer.json()["reason"] == "in_flight"
                assert len({answer.json()["orderId"] for answer in answers}) == 1
                key = f"other-{number}"
                answers = await asyncio.gather(
                    ann.place({"P001": 1}, key=key, pay="now"),
                    beside.place({"P001": 2}, key=key, pay="now"),
                )
                statuses = sorted(answer.status_code for answer in answers)
                assert statuses in ([200, 422], [409, 422]), [answer.text for answer in answers]
        placed = "SELECT count(*) FROM orders.saga WHERE user_id = $1"
        assert await shop.value(placed, ann.user_id) == 10

    async def test_f29_a_payment_under_its_key(self, ann: Shopper) -> None:
        order_id = await ann.placed()
        for _ in range(3):
            paid = await ann.pay(order_id, key="a-key")
            assert (paid.status_code, paid.json()["status"]) == (200, "CONFIRMED")
        other = await ann.pay(order_id, key="a-key", payment={"method": "gateway"})
        assert (other.status_code, other.json()["reason"]) == (422, "command_id_reused")
        twice = await ann.pay(order_id, key="another-key")
        assert (twice.status_code, twice.json()["reason"]) == (409, "already_paid")


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
