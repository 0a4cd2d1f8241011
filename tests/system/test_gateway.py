"""Orders that are paid by the gateway, over all services: held while their payment is unknown, and
never in the way of others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from orderctl.main import app
from shared.reconciliation import GatewayAccess, GatewayBook, Verdict, reconcile
from shared.testing.builders import (
    cancel_order,
    grant_points,
    new_id,
    place_order,
    put_product,
    top_up_wallet,
)
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shared.reconciliation import Reconciliation

    from ..conftest import OpenShop, Shop  # noqa: TID252 - a conftest has no absolute name

COMMANDS, EVENTS = "orders.commands.v1", "orders.events.v1"
PAYMENT = "SELECT state FROM payment.payment WHERE order_id = $1"
GAP_S = 0.02
"""Between two orders: 50 a second."""


def order(order_id: str, user_id: str, **fields: Any) -> Any:
    """One unit for 1,000."""
    return place_order(order_id, user_id=user_id, items={"P001": 1}, **fields)


async def test_points_and_gateway_pay_one_order(shop: Shop, user: str, order_id: str) -> None:
    await shop.stock_up(grant_points(user, amount=400))
    await shop.publish(order(order_id, user, method="gateway", points=400))
    assert (await shop.outcome(order_id)).type == "OrderConfirmed"
    (line,) = [one for one in await shop.gateway.book() if one["reference"] == order_id]
    assert (line["amount"], line["customer"]) == (600, user)


async def test_a_declined_order_is_rejected(shop: Shop, user: str, order_id: str) -> None:
    await shop.gateway.faults({"fault": "decline", "onlyKeys": [f"payment:{order_id}"]})
    await shop.publish(order(order_id, user, method="gateway"))
    outcome = await shop.outcome(order_id)
    assert (outcome.type, outcome.reason) == ("OrderRejected", "payment_declined")


async def test_f32_an_operator_closes_what_the_gateway_got_wrong(
    shop: Shop, user: str, order_id: str
) -> None:
    """Captured with another amount, given back by hand, closed: the order ends by itself, and the
    books agree."""
    key = f"payment:{order_id}"
    await shop.gateway.faults({"fault": "wrong_amount", "by": 300, "onlyKeys": [key]})
    await shop.publish(order(order_id, user, method="gateway"))
    await eventually(
        lambda: shop.value("SELECT state FROM payment.gateway_call WHERE key = $1", key),
        accept=lambda state: state == "QUARANTINED",
        within_s=30,
        describe="the call is quarantined",
    )
    (line,) = [one for one in await shop.gateway.book() if one["reference"] == order_id]
    assert line["amount"] == 1_300
    await shop.gateway.give_back(line, f"by-hand-{order_id}")
    before = await _reconciled(shop, order_id)
    assert [one.verdict for one in before.differences] == [Verdict.QUARANTINED]
    said = await _close(shop, order_id)
    assert f"{order_id}: REFUSED, the charge is DECLINED" in said
    outcome = await shop.outcome(order_id)
    assert (outcome.type, outcome.reason) == ("OrderRejected", "payment_declined")
    await shop.rest()
    after = await _reconciled(shop)
    assert (after.is_equal, after.by_hand) == (True, 2), after.differences


async def _close(shop: Shop, order_id: str) -> str:
    """What `orderctl payment close` says, in a thread: it asks over HTTP by itself."""
    words = ["payment", "close", order_id, "--note", "gave 1,300 back", "--operator", "ann"]
    url = shop.instances["payment-0"].admin_url
    environment = {"ADMIN_URL_PAYMENT_0": url, "COLUMNS": "120"}
    result = await asyncio.to_thread(CliRunner().invoke, app, words, env=environment)
    assert result.exit_code == 0, result.stderr
    return result.stdout


async def _reconciled(shop: Shop, order_id: str | None = None) -> Reconciliation:
    settings = shop.gateway.settings
    access = GatewayAccess(settings["GATEWAY_URL"], settings["GATEWAY_API_KEY"])
    async with GatewayBook(access) as book, shop.database.connection("operator") as connection:
        return await reconcile(connection, book, order_id=order_id)


async def test_f16_a_cancel_while_the_payment_is_unknown(
    shop: Shop, user: str, order_id: str
) -> None:
    key = f"payment:{order_id}"
    await shop.gateway.faults(
        {"fault": "hang_after_charge", "onlyKeys": [key], "times": 1},
        {"fault": "drop_webhooks", "onlyKeys": [key]},
    )
    await shop.publish(order(order_id, user, method="gateway"))
    await shop.until(order_id, state="CHARGING")
    await eventually(shop.gateway.strikes, accept=lambda found: found["hang_after_charge"] == 1)
    await shop.publish(cancel_order(order_id, user_id=user))
    assert (await shop.outcome(order_id)).type == "OrderCancelled"
    assert await shop.value(PAYMENT, order_id) == "REFUNDED"


async def test_f26_a_capture_after_the_order_was_rejected_goes_back(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    """The order holds for its deadline and the settlement window; what turns up later is given
    back, and the invariants hold."""
    settings = {
        "STEP_RESEND_S": "3", "RESEND_AT_MOST_S": "3", "ORDER_DEADLINE_S": "6",
        "SETTLEMENT_WINDOW_S": "4", "GATEWAY_TIMEOUT_S": "0.5", "GATEWAY_LEASE_S": "2",
        "RECONCILE_INTERVAL_S": "1",
    }  # fmt: skip
    async with open_shop(tmp_path, **settings) as shop:
        await shop.stock_up(put_product("P001", quantity=10, price=1_000))
        order_id = new_id("o")
        await shop.gateway.faults({"fault": "late", "seconds": 25})
        await shop.publish(order(order_id, "ann", method="gateway"))
        outcome = await shop.outcome(order_id)
        assert (outcome.type, outcome.reason) == ("OrderRejected", "payment_timeout")
        assert await shop.gateway.book() == []
        await eventually(
            lambda: shop.value(PAYMENT, order_id),
            accept=lambda state: state == "REFUNDED",
            within_s=60,
            describe="the late capture is given back",
        )
        assert [line["refunded"] for line in await shop.gateway.book()] == [1_000]
        await shop.rest()


async def test_while_the_gateway_hangs_wallet_orders_keep_their_speed(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    """Prints both latencies of one run, from `PlaceOrder` to `OrderConfirmed` on the broker. More
    orders hang than may wait for a reply: they take no places."""
    users = [f"user_{number}" for number in range(50)]
    settings = {"SAGAS_WAITING": "200", "STEP_RESEND_S": "3", "ORDER_DEADLINE_S": "120"}
    async with open_shop(tmp_path, **settings) as shop:
        await shop.stock_up(
            put_product("P001", quantity=10_000, price=1_000),
            *[top_up_wallet(user, amount=1_000_000) for user in users],
        )
        await _wallet_orders(shop, users, 100)  # warms up
        well = await _wallet_orders(shop, users, 300)
        await shop.gateway.faults({"fault": "hang_before_charge", "seconds": 600})
        held = [order(new_id("o"), user, method="gateway") for user in users for _ in range(6)]
        await shop.publish(*held)
        await eventually(
            lambda: shop.value("SELECT count(*) FROM payment.payment WHERE state = 'PENDING'"),
            accept=lambda count: count == len(held),
            within_s=60,
            describe="the gateway's orders are held",
        )
        await eventually(
            lambda: shop.value("SELECT count(*) FROM orders.saga WHERE waiting"),
            accept=lambda count: count == 0,
            within_s=60,
            describe="those that hang take no places",
        )
        hanging = await _wallet_orders(shop, users, 300)
        assert await shop.value(
            "SELECT count(*) FROM payment.payment WHERE state = 'PENDING'"
        ) == len(held)
        print(f"\nwallet orders, gateway well:    {_told(well)}")
        print(f"wallet orders, gateway hanging: {_told(hanging)}")
        await shop.gateway.heal()
        outcomes = await shop.outcomes([one.order_id for one in held])
        assert {one.type for one in outcomes.values()} == {"OrderConfirmed"}
        await shop.rest()


async def _wallet_orders(shop: Shop, users: Sequence[str], count: int) -> list[int]:
    """Orders at a steady rate, all confirmed; how long each took, in ms, in order."""
    placed = [order(new_id("o"), users[number % len(users)]) for number in range(count)]
    for one in placed:
        await shop.publish(one)
        await asyncio.sleep(GAP_S)  # the rate
    ids = {one.order_id for one in placed}
    begun = {
        record.json["orderId"]: record.timestamp_ms
        for record in await shop.topics.read(COMMANDS)
        if record.json["orderId"] in ids
    }
    confirmed = await shop.topics.wait_for(
        EVENTS,
        lambda record: (
            record.json.get("orderId") in ids and record.json["type"] == "OrderConfirmed"
        ),
        count=count,
        within_s=60,
    )
    ended = {record.json["orderId"]: record.timestamp_ms for record in confirmed}
    return sorted(ended[one] - begun[one] for one in ids)


def _told(sorted_ms: Sequence[int]) -> str:
    middle, late = (sorted_ms[int(len(sorted_ms) * share)] for share in (0.5, 0.99))
    return f"p50 {middle} ms, p99 {late} ms"
