"""The audit beside orders that flow: no false alarm, and what is planted is found by its check."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from orderctl.auditing import audit_everything
from orderctl.auditor import Auditor
from shared.testing.builders import cancel_order, pay_order, place_order

if TYPE_CHECKING:
    from shared.contracts.base import Message

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

ORDERS = 400
USERS = 40
AUDITS = 5


def orders() -> list[Message]:
    """All at once: paid, refused for want of money or units, with coupons, later, cancelled."""
    messages: list[Message] = []
    for number in range(ORDERS):
        order_id, user = f"audit-{number:04}", f"user_{160 + number % USERS}"
        wish = {"items": {"P001": 2_000}} if number % 5 == 0 else {"items": {"P002": 1, "P003": 1}}
        if number % 7 == 0:
            wish = {"items": {"P004": 1, "P005": 9}}
        messages.append(
            place_order(
                order_id,
                user_id=user,
                coupon_id="WELCOME10" if number % 3 == 0 else None,
                pay="later" if number % 4 == 0 else "now",
                **wish,
            )
        )
        if number % 8 == 0:
            messages.append(cancel_order(order_id, user_id=user))
        elif number % 4 == 0:
            messages.append(pay_order(order_id, user_id=user))
    return messages


async def test_the_live_audit_raises_no_false_alarm_while_orders_flow(shop: Shop) -> None:
    dsn = shop.database.operator_dsn
    watch = Auditor(dsn, every_s=0, orders_per_slice=50)
    open_ones = "SELECT count(*) FROM orders.saga WHERE waiting OR pending_since IS NOT NULL"
    await shop.publish(*orders())
    await shop.event("audit-0001", "OrderAccepted")
    flowing = []
    for _ in range(AUDITS):
        flowing.append(await shop.value(open_ones))
        (await audit_everything(dsn, None, only_always=True)).require()
        (await watch.pass_once()).require()
    # an audit of a system that had come to rest would prove nothing of one at work
    assert flowing[0] > 0, flowing
    await asyncio.gather(*(shop.outcome(f"audit-{number:04}") for number in range(ORDERS)))
    report = await shop.rest()
    (told,) = [check for check in report.checks if check.name == "orders_are_told_as_they_are"]
    assert told.looked_at is not None
    assert told.looked_at >= ORDERS


PLANTS = {
    "ledger_agrees": (
        (
            "UPDATE stock.product SET available = available + 1, received = received + 1"
            " WHERE product_id = 'P001'"
        ),
        (
            "UPDATE stock.product SET available = available - 1, received = received - 1"
            " WHERE product_id = 'P001'"
        ),
    ),
    "ledger_sums_to_zero": (
        "INSERT INTO payment.ledger_entry VALUES ('theft', 'house:revenue', 5, 'KRW')",
        "DELETE FROM payment.ledger_entry WHERE transaction_id = 'theft'",
    ),
    "orders_are_told_as_they_are": (
        "UPDATE orders.saga SET order_id = order_id || '-lost' WHERE order_id = 'audit-plant'",
        "UPDATE orders.saga SET order_id = 'audit-plant' WHERE order_id = 'audit-plant-lost'",
    ),
    "consumed_messages_are_accounted_for": (
        (
            "UPDATE orders.inbox SET message_id = 'lost'"
            " WHERE message_id = 'audit-plant:reserve:do' AND message_type = 'StockRefused'"
        ),
        "UPDATE orders.inbox SET message_id = 'audit-plant:reserve:do' WHERE message_id = 'lost'",
    ),
}
"""Check -> how to violate it in a shop at rest, and how to mend it. The order is a refused one."""
# An order that is gone is missed by its reservation and by what the outbox says of it, too.
SEEN_TOO = {
    "orders_are_told_as_they_are": {"outcomes_were_written", "reservations_are_what_was_ordered"}
}


@pytest.mark.parametrize("name", PLANTS)
async def test_a_plant_in_a_whole_system_is_found(shop: Shop, name: str) -> None:
    await shop.publish(place_order("audit-plant", items={"P005": 9}))
    await shop.outcome("audit-plant")
    await shop.rest()
    how, back = PLANTS[name]
    async with shop.database.connection() as connection:
        assert not (await connection.execute(how)).endswith(" 0")
        try:
            report = await audit_everything(
                shop.database.operator_dsn, shop.topics.connection, shop.redis_url
            )
        finally:
            await connection.execute(back)
    found = {check.name for check in report.violated}
    assert found - SEEN_TOO.get(name, set()) == {name}
    assert not report.unchecked
