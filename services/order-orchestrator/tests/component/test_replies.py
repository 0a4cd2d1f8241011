"""Replies that nobody asked for, that come early or in a form that can't be read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.contracts.coupon import CouponHeld, CouponUsed
from shared.contracts.effects import Effect
from shared.contracts.payment import PaymentCharged, PaymentPart, PaymentRefunded, PaymentSource
from shared.contracts.stock import StockReleased
from shared.testing.builders import place_order, wire

if TYPE_CHECKING:
    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import Stage

SILENT = "silent"
IGNORED = "saga_events_ignored_total"


async def held_up(stage: Stage, order_id: str, step: str) -> None:
    """The order waits for an answer of `step` that does not come."""
    stage.cast(order_id, **{step: [SILENT]})
    await stage.publish(place_order(order_id, coupon_id="WELCOME10"))
    await stage.command(order_id, f"{step}:do")


async def test_f10_replies_of_strangers_change_nothing(
    stage: Stage, answers: Answers, order_id: str
) -> None:
    await held_up(stage, order_id, "hold")
    other = f"{order_id}-b"
    await held_up(stage, other, "hold")
    own, foreign = [await stage.command(order, "hold:do") for order in (order_id, other)]
    held = answers.done(own)
    part = PaymentPart(source=PaymentSource.WALLET, amount=900)
    before = await stage.counted(IGNORED)
    strangers = {
        "unknown_order": held.model_copy(
            update={"order_id": "nobody", "command_id": "nobody:hold:do"}
        ),
        # another order's answer under this order's id: its own must be taken all the same
        "other_order": held.model_copy(update={"command_id": foreign.command_id}),
        "never_sent": PaymentCharged(
            command_id=f"{order_id}:charge:do", order_id=order_id, currency="KRW", parts=(part,)
        ),
    }
    await stage.reply(
        *strangers.values(),
        # of another step, or none
        answers.done(own).model_copy(update={"command_id": f"{order_id}:charge:do"}),
        CouponUsed(command_id=f"{order_id}:hold:do", order_id=order_id),
        CouponHeld(
            command_id=f"{order_id}:reserve:do", order_id=order_id, discount=900, currency="KRW"
        ),
        CouponHeld(
            command_id=f"{order_id}:teleport:do", order_id=order_id, discount=900, currency="KRW"
        ),
        PaymentRefunded(
            command_id=f"{order_id}:charge:do", order_id=order_id, effect=Effect.UNDONE
        ),
        # undos that were never asked for
        StockReleased(
            command_id=f"{order_id}:reserve:undo", order_id=order_id, effect=Effect.UNDONE
        ),
    )
    await stage.all_read()
    for order in (order_id, other):
        document = await stage.saga(order)
        assert document["state"] == "HOLDING"
        causes = {entry["cause"] for entry in document["history"]}
        assert causes <= {"PlaceOrder", "StockReserved", "TimerFired"}
    assert await stage.counted(IGNORED) - before >= 9
    for reason in [*strangers, "other_step"]:
        assert await stage.counted(IGNORED, reason=reason) >= 1

    await stage.reply(held, answers.done(foreign))
    for order in (order_id, other):
        assert (await stage.outcome(order)).total == 900


async def test_an_early_reply_is_ignored_and_comes_again_when_it_is_asked_for(
    stage: Stage, order_id: str
) -> None:
    """`CouponHeld` before the saga has sent `HoldCoupon`."""
    await held_up(stage, order_id, "reserve")
    early = CouponHeld(
        command_id=f"{order_id}:hold:do", order_id=order_id, discount=100, currency="KRW"
    )
    await stage.reply(early)
    await stage.all_read()
    assert (await stage.saga(order_id))["state"] == "RESERVING"
    stage.cast(order_id, reserve=["done"])
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"


async def test_f1_every_reply_twice_has_one_effect(
    stage: Stage, answers: Answers, order_id: str
) -> None:
    await stage.publish(place_order(order_id, coupon_id="WELCOME10"))
    document = await stage.until(order_id, state="CONFIRMED")
    sent = list(stage.commands(order_id))
    for name in sent:
        await stage.reply(answers.done(await stage.command(order_id, name)))
    await stage.all_read()
    assert await stage.saga(order_id) == document
    assert stage.commands(order_id) == sent


async def test_f4_f5_what_is_no_reply_holds_up_nobody(stage: Stage, order_id: str) -> None:
    topic = "payment.replies.v1"
    dead = len(await stage.dead_letters("order-orchestrator"))
    await stage.topics.publish(
        topic,
        [
            b"{",
            b"[" * 5_000,
            b'{"type":"PaymentCharged"}',
            None,
            {"type": "PaymentTeleported", "orderId": order_id, "commandId": "x"},
        ],
    )
    await stage.publish(place_order(order_id))
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"
    await stage.all_read()
    found = (await stage.dead_letters("order-orchestrator"))[dead:]
    reasons = sorted(record.headers["dlq-reason"] for record in found)
    # an unknown type is of a newer version: skipped
    assert reasons == ["empty", "invalid", "not_json", "too_deep"]


async def test_a_reply_that_cannot_be_read_makes_its_saga_stuck(
    stage: Stage, answers: Answers, order_id: str
) -> None:
    """It names its order: nobody will answer that step, and an operator is told at once."""
    await held_up(stage, order_id, "charge")
    charged = answers.done(await stage.command(order_id, "charge:do"))
    spoiled = wire(charged) | {"parts": [{"source": "wallet", "amount": "900"}]}
    await stage.topics.publish("payment.replies.v1", [spoiled])
    document = await stage.until(order_id, stuck=...)
    assert document["stuck"]["why"] == (
        "charge is a dead letter: invalid, see order-orchestrator.dlq.v1"
    )
    assert document["owed"]["money"] == 900
    # the mended participant says it again, as it should be
    await stage.reply(charged)
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"


async def test_a_dead_letter_of_an_internal_command_makes_its_saga_stuck(
    stage: Stage, order_id: str
) -> None:
    await held_up(stage, order_id, "reserve")
    command = await stage.command(order_id, "reserve:do")
    await stage.topics.publish("stock.dlq.v1", [command.to_bytes(), b"no saga's", None])
    document = await stage.until(order_id, stuck=...)
    assert document["stuck"]["why"] == (
        "reserve is a dead letter: no reason given, see stock.dlq.v1"
    )
    assert document["owed"]["units"] == [{"productId": "P001", "quantity": 1}]
    stage.cast(order_id, reserve=["done"])
    status, _ = await stage.act(order_id, "retry")
    assert status == 200
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"


async def test_a_dead_letter_of_a_step_that_was_answered_is_no_matter(
    stage: Stage, order_id: str
) -> None:
    await stage.publish(place_order(order_id))
    before = await stage.until(order_id, state="CONFIRMED")
    command = await stage.command(order_id, "reserve:do")
    await stage.topics.publish("stock.dlq.v1", [command.to_bytes()])
    await stage.topics.wait_drained("order-orchestrator-dead-letters", within_s=60)
    assert await stage.saga(order_id) == before


async def test_many_orders_at_once_go_their_own_ways(stage: Stage, order_id: str) -> None:
    """F45 in small: one product, every third refused by stock, every third by payment."""
    orders = [f"{order_id}-{number:03}" for number in range(150)]
    for number, each in enumerate(orders):
        stage.cast(each, **{["reserve", "hold", "charge"][number % 3]: ["done", "refused"]})
        if number % 3 != 1:
            stage.cast(each, **{["reserve", "hold", "charge"][number % 3]: ["refused"]})
    await stage.publish(*[place_order(each, coupon_id="WELCOME10") for each in orders])
    outcomes = await asyncio.gather(*[stage.outcome(each) for each in orders[:6]])
    assert [outcome.type for outcome in outcomes] == [
        "OrderRejected", "OrderConfirmed", "OrderRejected",
    ] * 2  # fmt: skip
    for each in orders[6:]:
        await stage.outcome(each)
    await stage.is_sound()
