"""A participant stands still, dies, or loses what was sent to it, while orders are under way.

What it owes is taken from the saga's table: which steps are its own, before the pivot and after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from order_orchestrator.saga import PIVOT, STEPS
from shared.testing.builders import cancel_order, pay_order, place_order

if TYPE_CHECKING:
    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

PARTICIPANTS = sorted({step.topic.partition(".")[0] for step in STEPS})


def steps_of(participant: str) -> list[str]:
    """What a new order without a coupon asks of it before the pivot, as `reserve:do`."""
    topic = f"{participant}.commands.v1"
    return [
        f"{step.name}:do" for step in STEPS[:PIVOT] if step.topic == topic and step.name != "hold"
    ]


def steps_to_pay(participant: str) -> list[str]:
    """What an order asks of it once it is paid; the charge holds up what follows."""
    topic = f"{participant}.commands.v1"
    names = [f"{step.name}:do" for step in STEPS[PIVOT - 1 :] if step.topic == topic]
    return names[:1] if participant == "payment" else names


def undos_of(participant: str) -> list[str]:
    """What an order that awaited its payment asks of it once it is cancelled."""
    topic = f"{participant}.commands.v1"
    return [f"{step.name}:undo" for step in STEPS[: PIVOT - 1] if step.topic == topic]


async def prepare(shop: Shop, order_id: str, user: str) -> None:
    """Two orders that await their payment, one of them with a coupon."""
    await shop.publish(
        place_order(f"{order_id}-paid", user_id=user, pay="later", coupon_id="WELCOME10"),
        place_order(f"{order_id}-cancelled", user_id=user, pay="later", coupon_id="GIFT"),
    )
    for name in ("paid", "cancelled"):
        await shop.event(f"{order_id}-{name}", "OrderAwaitingPayment")


@pytest.mark.parametrize("how", ["freeze", "kill"])
@pytest.mark.parametrize("participant", PARTICIPANTS)
async def test_f17_f18_away_for_longer_than_a_resend_it_costs_no_order(
    shop: Shop, order_id: str, user: str, participant: str, how: str
) -> None:
    """Every step of it is asked for twice, under the same id, before it is back. Nothing is undone
    but what was cancelled: reservations live as long as their order (F17)."""
    await prepare(shop, order_id, user)
    victim = shop.instances[f"{participant}-0"]
    if how == "freeze":
        victim.freeze()
    else:
        await victim.kill()
    await shop.publish(
        place_order(f"{order_id}-new", user_id=user),
        pay_order(f"{order_id}-paid", user_id=user),
        cancel_order(f"{order_id}-cancelled", user_id=user),
    )
    owed = [
        *(f"{order_id}-new:{name}" for name in steps_of(participant)),
        *(f"{order_id}-paid:{name}" for name in steps_to_pay(participant)),
        *(f"{order_id}-cancelled:{name}" for name in undos_of(participant)),
    ]
    assert owed
    for command_id in owed:
        await shop.sent(f"{participant}.commands.v1", command_id, copies=2)
    await shop.heal()

    outcomes = await shop.outcomes(f"{order_id}-{name}" for name in ("new", "paid", "cancelled"))
    assert [outcome.type for outcome in outcomes.values()] == [
        "OrderConfirmed",
        "OrderConfirmed",
        "OrderCancelled",
    ]
    document = await shop.until(f"{order_id}-paid", state="CONFIRMED")
    assert {entry["state"] for entry in document["history"]} & {"COMPENSATING", "REJECTED"} == set()


async def test_f20_f22_down_past_every_limit_is_stuck_until_it_is_back(
    shop: Shop, order_id: str, user: str
) -> None:
    """Stock is gone, and what was sent to it as well. An operator sends again, once it is back."""
    await prepare(shop, order_id, user)
    paid, cancelled = f"{order_id}-paid", f"{order_id}-cancelled"
    await shop.instances["stock-0"].kill()
    await shop.publish(pay_order(paid, user_id=user), cancel_order(cancelled, user_id=user))
    owed = await shop.until(paid, stuck=...)
    assert (owed["state"], owed["status"]) == ("COMPLETING", "CONFIRMED")
    assert owed["owed"]["steps"] == ["commit"]
    owed = await shop.until(cancelled, stuck=...)
    assert (owed["state"], owed["status"]) == ("COMPENSATING", "COMPENSATING")
    assert owed["owed"]["units"] == [{"productId": "P001", "quantity": 1}]
    await shop.is_sound()
    assert (await shop.outcome(paid)).type == "OrderConfirmed", (
        "confirmed to the world all the same"
    )

    await shop.topics.lose("stock.commands.v1")
    await shop.instances["stock-0"].start(ready_within_s=90)
    for order in (paid, cancelled):
        assert (await shop.saga(order))["stuck"], "nobody asks for it any more"
        status, _ = await shop.act(order, "retry", note="stock is back")
        assert status == 200
    assert (await shop.outcome(cancelled)).type == "OrderCancelled"
    document = await shop.until(paid, state="CONFIRMED")
    assert "by ann: stock is back" in [entry["note"] for entry in document["history"]]
    states = await shop.value(
        "SELECT array_agg(state ORDER BY order_id) FROM stock.reservation"
        " WHERE starts_with(order_id, $1)",
        order_id,
    )
    assert states == ["RELEASED", "COMMITTED"]
    await shop.rest()
