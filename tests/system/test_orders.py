"""Orders of every kind through all services, from Kafka to Kafka."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shared.testing.builders import cancel_order, pay_order, place_order
from shared.testing.kafka import Record

if TYPE_CHECKING:
    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

CONFIRMED: dict[str, tuple[dict[str, Any], int]] = {
    "one line from the wallet": ({}, 1_000),
    "several lines": ({"items": {"P003": 2, "P001": 1, "P002": 5}}, 8_000),
    "with a coupon": ({"items": {"P001": 3}, "coupon_id": "WELCOME10"}, 2_700),
    "free by its coupon": ({"items": {"P001": 2}, "coupon_id": "GIFT"}, 0),
    "free by its price": ({"items": {"FREE": 1}}, 0),
    "at the expected total": ({"expected_total": 1_000}, 1_000),
    "with a reference": ({"reference": "PO 4711 \N{SNOWMAN}"}, 1_000),
}
"""Kind -> what is ordered, and the total."""

REJECTED: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    "sold out": (
        {"items": {"P001": 1, "P005": 4}},
        "out_of_stock",
        [{"productId": "P005", "requested": 4, "available": 3}],
    ),
    "unknown product": (
        {"items": {"P999": 1}},
        "unknown_product",
        [{"productId": "P999", "requested": 1, "available": 0}],
    ),
    "a coupon that nobody has": (
        {"coupon_id": "NOBODYS"},
        "coupon_refused",
        [{"couponReason": "unknown_campaign"}],
    ),
    "too little money": ({"items": {"P001": 2_000}}, "insufficient_balance", []),
    "too little money, with a coupon": (
        {"items": {"P001": 2_000}, "coupon_id": "WELCOME10"},
        "insufficient_balance",
        [],
    ),
    "another price": ({"expected_total": 999}, "price_changed", []),
    "another price, with a coupon": (
        {"coupon_id": "WELCOME10", "expected_total": 1_000},
        "price_changed",
        [],
    ),
}
"""Kind -> what is ordered, the reason, and the details."""


async def balance(shop: Shop, user: str) -> int:
    found = await shop.value("SELECT balance FROM payment.wallet WHERE user_id = $1", user)
    return int(found)


@pytest.mark.parametrize("pay", ["now", "later"])
@pytest.mark.parametrize("kind", CONFIRMED)
async def test_confirmed(shop: Shop, order_id: str, user: str, kind: str, pay: str) -> None:
    fields, total = CONFIRMED[kind]
    place = place_order(order_id, user_id=user, pay=pay, **fields)
    before = await balance(shop, user)
    await shop.publish(place)
    if pay == "later":
        event = await shop.event(order_id, "OrderAwaitingPayment")
        assert event.total == total
        assert await balance(shop, user) == before
        await shop.publish(pay_order(order_id, user_id=user))
    outcome = await shop.outcome(order_id)
    assert outcome.type == "OrderConfirmed", outcome
    assert (outcome.total, outcome.currency) == (total, "KRW")
    assert outcome.reference == place.reference
    assert [(item.product_id, item.quantity) for item in outcome.items] == [
        (line.product_id, line.quantity) for line in place.lines()
    ]
    await shop.until(order_id, state="CONFIRMED")
    assert await balance(shop, user) == before - total
    state = await shop.value("SELECT state FROM stock.reservation WHERE order_id = $1", order_id)
    assert state == "COMMITTED"
    if place.coupon_id:
        coupon = "SELECT state FROM coupon.coupon WHERE user_id = $1 AND order_id = $2"
        assert await shop.value(coupon, user, order_id) == "USED"


@pytest.mark.parametrize("kind", REJECTED)
async def test_rejected(shop: Shop, order_id: str, user: str, kind: str) -> None:
    fields, reason, details = REJECTED[kind]
    before = await balance(shop, user)
    await shop.publish(place_order(order_id, user_id=user, **fields))
    outcome = await shop.outcome(order_id)
    assert (outcome.type, outcome.reason) == ("OrderRejected", reason)
    assert [detail.model_dump(by_alias=True) for detail in outcome.details] == details
    # nothing is left of it: money, units and coupon are free for the next order
    assert await balance(shop, user) == before
    held = "SELECT count(*) FROM coupon.coupon WHERE user_id = $1 AND state <> 'ISSUED'"
    assert await shop.value(held, user) == 0
    reserved = await shop.value(
        "SELECT count(*) FROM stock.reservation WHERE order_id = $1 AND state = 'RESERVED'",
        order_id,
    )
    assert reserved == 0


async def test_cancelled_and_all_of_it_ordered_again(shop: Shop, order_id: str, user: str) -> None:
    wish = {"user_id": user, "items": {"P005": 3}, "coupon_id": "WELCOME10", "pay": "later"}
    await shop.publish(place_order(order_id, **wish))
    await shop.event(order_id, "OrderAwaitingPayment")
    # while it is held, nobody else gets it
    await shop.publish(place_order(f"{order_id}-b", user_id=user, items={"P005": 1}))
    assert (await shop.outcome(f"{order_id}-b")).reason == "out_of_stock"
    await shop.publish(cancel_order(order_id, user_id=user, reason="too much"))
    outcome = await shop.outcome(order_id)
    assert (outcome.type, outcome.reason, outcome.note) == (
        "OrderCancelled", "cancelled_by_user", "too much",
    )  # fmt: skip
    await shop.publish(place_order(f"{order_id}-c", **wish))
    await shop.event(f"{order_id}-c", "OrderAwaitingPayment")
    await shop.publish(cancel_order(f"{order_id}-c", user_id=user))
    await shop.outcome(f"{order_id}-c")


class TestWithoutAClientLibrary:
    """What `kcat -P` does: a JSON text, no header, perhaps no key."""

    def text(self, order_id: str, user: str, **fields: Any) -> bytes:
        body = {"type": "PlaceOrder", "orderId": order_id, "userId": user} | fields
        return json.dumps(body, indent=1).encode()

    async def test_plain_json(self, shop: Shop, order_id: str, user: str) -> None:
        items = [{"productId": "P001", "quantity": 1}]
        await shop.publish(
            Record(self.text(f"{order_id}-a", user, items=items), f"{order_id}-a"),
            Record(self.text(f"{order_id}-b", user, items=items)),
            Record(
                self.text(f"{order_id}-c", user, items=items, pay="later", couponId=None, more=[1]),
                headers={"null": None, "binary": b"\xff\xfe"},
            ),
        )
        assert (await shop.outcome(f"{order_id}-a")).type == "OrderConfirmed"
        assert (await shop.outcome(f"{order_id}-b")).type == "OrderConfirmed"
        await shop.event(f"{order_id}-c", "OrderAwaitingPayment")
        pay = {"type": "PayOrder", "orderId": f"{order_id}-c", "userId": user}
        await shop.publish(Record(json.dumps(pay).encode()))
        assert (await shop.outcome(f"{order_id}-c")).type == "OrderConfirmed"

    async def test_lines_of_one_product_are_summed(
        self, shop: Shop, order_id: str, user: str
    ) -> None:
        items = [{"productId": "P002", "quantity": 1}, {"productId": "P001", "quantity": 1}] * 2
        await shop.publish(self.text(order_id, user, items=items))
        outcome = await shop.outcome(order_id)
        assert [(item.product_id, item.quantity) for item in outcome.items] == [
            ("P001", 2), ("P002", 2),
        ]  # fmt: skip

    async def test_what_is_wrong_is_said(self, shop: Shop, order_id: str, user: str) -> None:
        await shop.publish(self.text(order_id, user, items=[{"productId": "P001"}]))
        outcome = await shop.outcome(order_id)
        assert (outcome.reason, outcome.status) == ("invalid_command", "REJECTED")
        assert "quantity" in outcome.note


async def test_f1_every_message_of_every_topic_again_changes_nothing(
    shop: Shop, order_id: str, user: str
) -> None:
    """All that was ever written comes again, on every internal and public topic."""
    fields = {"user_id": user, "coupon_id": "WELCOME10"}
    await shop.publish(
        place_order(order_id, **fields), place_order(f"{order_id}-b", items={"P001": 10_000})
    )
    await shop.outcomes([order_id, f"{order_id}-b"])
    await shop.rest()
    tables = (
        "SELECT (SELECT sum(version) FROM stock.product),"
        " (SELECT sum(version) FROM orders.saga),"
        " (SELECT count(*) FROM orders.saga_history),"
        " (SELECT count(*) FROM payment.ledger_entry),"
        " (SELECT jsonb_agg(coupon ORDER BY coupon_id, user_id) FROM coupon.coupon)"
    )
    async with shop.database.connection("operator") as connection:
        before = await connection.fetchrow(tables)
        for topic in (
            "orders.commands.v1", "stock.commands.v1", "coupon.commands.v1",
            "payment.commands.v1", "stock.replies.v1", "coupon.replies.v1", "payment.replies.v1",
            "stock.admin.v1", "coupon.admin.v1", "coupon.requests.v1", "wallet.requests.v1",
        ):  # fmt: skip
            await shop.topics.publish(topic, await shop.topics.read(topic))
        await shop.rest()
        assert await connection.fetchrow(tables) == before


async def test_metrics_tell_of_it(shop: Shop) -> None:
    async with shop.orchestrator.admin() as client:
        text = (await client.get("/metrics")).text
    for name in (
        'orders_total{status="CONFIRMED"}',
        'order_duration_seconds_bucket{le="1.0",status="CONFIRMED"}',
        'saga_active{state="CHARGING"}',
        "saga_stuck 0.0",
        "outbox_pending",
        "outbox_oldest_age_seconds",
        "consumer_lag_records",
        "consumer_last_progress_timestamp_seconds",
    ):
        assert f"\n{name}" in text, name
