"""Single faults at the gateway, and what becomes of the order: F24 to F28, F30, F32, F33."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.effects import Effect
from shared.contracts.payment import PaymentCharged, PaymentRefunded, PaymentRefused
from shared.testing.builders import charge_payment, new_id, refund_payment
from shared.testing.processes import CRASHED
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from shared.contracts.base import Message

COMMANDS = "payment.commands.v1"
REPLIES = "payment.replies.v1"
SETTINGS = {"GATEWAY_TIMEOUT_S": "0.7", "GATEWAY_LEASE_S": "2.1", "RECONCILE_INTERVAL_S": "1"}
CALL = "SELECT {column} FROM gateway_call WHERE order_id = $1 AND kind = 'charge'"


@pytest.fixture
async def payment(shop: Any) -> Any:
    """The shop with payment-0 and payment-1, both well."""
    await shop.start(0, 1, **SETTINGS)
    return shop


async def charge(shop: Any, **fields: Any) -> str:
    """A charge of 1,000 by the gateway; returns its order."""
    order_id = new_id("o")
    fields.setdefault("method", "gateway")
    await shop.topics.publish(COMMANDS, [charge_payment(order_id, amount=1_000, **fields)])
    return order_id


async def charged(shop: Any, order_id: str) -> Message:
    """The one answer to the charge, however often it was said."""
    return (await shop.answers(REPLIES, [charge_payment(order_id)]))[0]


async def refunded(shop: Any, order_id: str) -> PaymentRefunded:
    """The one answer to the refund."""
    (answer,) = await shop.answers(REPLIES, [refund_payment(order_id)])
    assert isinstance(answer, PaymentRefunded)
    return answer


async def lines(shop: Any, order_id: str) -> list[dict[str, Any]]:
    """What the gateway's book has of the order."""
    return [line for line in await shop.gateway.book() if line["reference"] == order_id]


async def becomes(shop: Any, order_id: str, state: str, *, column: str = "state") -> None:
    """The charge's call is so."""
    async with shop.database.connection("payment") as connection:
        await eventually(
            lambda: connection.fetchval(CALL.format(column=column), order_id),
            accept=lambda found: found == state,
            within_s=30,
            describe=f"{column} of the call is {state}",
        )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"fault": "hang_after_charge", "times": 1}, id="F24-charged-unanswered"),
        pytest.param({"fault": "hang_before_charge", "times": 1}, id="F25-not-charged"),
        pytest.param({"fault": "error_after_charge", "times": 1}, id="F28-500-after-the-charge"),
        pytest.param({"fault": "error_before_charge", "times": 2}, id="F28-500-before-it"),
        pytest.param({"fault": "throttle", "times": 2}, id="F28-429"),
        pytest.param({"fault": "late", "seconds": 2, "times": 1}, id="F26-absent-then-applied"),
        pytest.param({"fault": "processing", "seconds": 2}, id="in-process"),
    ],
)
async def test_one_charge_whatever_the_gateway_answers(payment: Any, fault: dict[str, Any]) -> None:
    await payment.gateway.faults(fault | {"on": ["charge"]} if "times" in fault else fault)
    order_id = await charge(payment)
    assert isinstance(await charged(payment, order_id), PaymentCharged)
    assert sum((await payment.gateway.strikes()).values())
    (line,) = await lines(payment, order_id)
    assert (line["status"], line["amount"]) == ("captured", 1_000)
    await payment.check()


async def test_callbacks_of_somebody_else_are_refused(payment: Any) -> None:
    """What they say comes true by asking, and not by them."""
    order_id = new_id("o")
    key = f"payment:{order_id}"
    await payment.gateway.faults(
        {"fault": "hang_after_charge", "times": 1, "onlyKeys": [key], "on": ["charge"]},
        {"fault": "bad_signature", "onlyKeys": [key]},
    )
    before = await callbacks(payment, "taken")
    charges = [charge_payment(order_id, amount=1_000, method="gateway")]
    await payment.topics.publish(COMMANDS, charges)
    assert isinstance(await charged(payment, order_id), PaymentCharged)
    assert await callbacks(payment, "bad_signature") > 0
    assert await callbacks(payment, "taken") == before
    await payment.check()


async def callbacks(shop: Any, outcome: str) -> float:
    """How many there were, of both instances."""
    name = "payment_gateway_callbacks_total"
    return sum([await shop.metric(name, number=number, outcome=outcome) for number in (0, 1)])


async def test_f28_a_decline_is_final(payment: Any) -> None:
    await payment.gateway.faults({"fault": "decline", "times": 1})
    order_id = await charge(payment)
    answer = await charged(payment, order_id)
    assert isinstance(answer, PaymentRefused)
    assert answer.reason == "payment_declined"
    await payment.gateway.heal()
    await payment.topics.publish(
        COMMANDS, [charge_payment(order_id, amount=1_000, method="gateway")]
    )
    await payment.answers(REPLIES, [charge_payment(order_id)], times=2)
    assert [line["status"] for line in await lines(payment, order_id)] == ["declined"]
    await payment.check()


async def test_f26_a_capture_that_turns_up_after_the_order_was_given_up_goes_back(
    payment: Any,
) -> None:
    await payment.gateway.faults({"fault": "late", "seconds": 6})
    before = await payment.metric("payment_late_captures_total")
    before += await payment.metric("payment_late_captures_total", number=1)
    order_id = await charge(payment)
    await becomes(payment, order_id, "ABSENT")
    await payment.topics.publish(COMMANDS, [refund_payment(order_id)])
    assert (await refunded(payment, order_id)).effect is Effect.NOTHING
    assert await lines(payment, order_id) == []

    async def given_back() -> bool:
        found = await lines(payment, order_id)
        return bool(found) and found[0]["refunded"] == 1_000

    await eventually(given_back, within_s=30, describe="the late capture is refunded")
    await payment.settled()
    after = await payment.metric("payment_late_captures_total")
    after += await payment.metric("payment_late_captures_total", number=1)
    assert after == before + 1
    # what was said stays said
    await payment.topics.publish(COMMANDS, [refund_payment(order_id)])
    await payment.answers(REPLIES, [refund_payment(order_id)], times=2)
    await payment.check()


async def test_f30_a_refund_is_sent_until_it_is_settled(payment: Any) -> None:
    order_id = await charge(payment)
    assert isinstance(await charged(payment, order_id), PaymentCharged)
    await payment.gateway.faults(
        {"fault": "hang_after_charge", "times": 1, "on": ["refund"]},
        {"fault": "error_before_charge", "times": 2, "on": ["refund"]},
    )
    await payment.topics.publish(COMMANDS, [refund_payment(order_id)] * 3)
    assert (await refunded(payment, order_id)).effect is Effect.UNDONE
    (line,) = await lines(payment, order_id)
    assert [one["amount"] for one in line["refunds"]] == [1_000]
    await payment.check()


async def test_points_go_back_with_the_rest(payment: Any) -> None:
    user_id = new_id("u")
    await payment.fill([user_id], points=300)
    order_id = await charge(payment, user_id=user_id, points=300)
    answer = await charged(payment, order_id)
    assert [(part.source, part.amount) for part in answer.parts] == [
        ("points", 300),
        ("gateway", 700),
    ]
    await payment.topics.publish(COMMANDS, [refund_payment(order_id)])
    await refunded(payment, order_id)
    async with payment.database.connection("payment") as connection:
        points = await connection.fetchval("SELECT points FROM wallet WHERE user_id = $1", user_id)
    assert points == 300
    assert [line["refunded"] for line in await lines(payment, order_id)] == [700]
    await payment.check()


@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
async def test_f32_another_amount_is_quarantined(payment: Any, fault: str) -> None:
    await payment.gateway.faults({"fault": fault, "on": ["charge"], "times": 1})
    order_id = await charge(payment)
    await becomes(payment, order_id, "QUARANTINED")
    await payment.topics.publish(COMMANDS, [refund_payment(order_id)])
    await payment.topics.wait_drained("payment")
    # nothing is said of it, neither that it is charged nor that it isn't
    said = [record.json["commandId"] for record in await payment.topics.read(REPLIES)]
    assert not {f"{order_id}:charge:do", f"{order_id}:charge:undo"}.intersection(said)
    report = await payment.audit()
    assert [check.name for check in report.checks if not check.ok] == ["calls_are_settled"]
    # The next test finds the books in order.
    async with payment.database.connection() as admin:
        await admin.execute("DELETE FROM payment.gateway_call WHERE order_id = $1", order_id)
        await admin.execute("DELETE FROM payment.payment WHERE order_id = $1", order_id)


@pytest.mark.parametrize("place", ["before_request", "after_request"])
async def test_f27_somebody_goes_on_where_a_worker_died(payment: Any, place: str) -> None:
    for number in (0, 1):
        await payment.instances[number].kill()
        payment.instances[number].spawn(crash_point=place)
    order_id = await charge(payment)
    await eventually(
        lambda: any(one.exit_code == CRASHED for one in payment.instances.values()),
        within_s=30,
        describe="the worker is dead",
    )
    for one in payment.instances.values():
        await one.restart()
    assert isinstance(await charged(payment, order_id), PaymentCharged)
    assert len(await lines(payment, order_id)) == 1
    await payment.check()


async def test_a_worker_that_is_told_to_stop_settles_what_is_under_way(payment: Any) -> None:
    await payment.instances[1].kill()
    await payment.gateway.faults({"fault": "latency", "seconds": 0.5, "on": ["charge"]})
    order_id = await charge(payment)
    await eventually(payment.gateway.strikes, accept=lambda found: found["latency"] == 1)
    await payment.instances[0].terminate()
    async with payment.database.connection("payment") as connection:
        state = await connection.fetchval("SELECT state FROM payment WHERE order_id = $1", order_id)
    assert state == "CAPTURED"
    for one in payment.instances.values():
        await one.start()
    assert isinstance(await charged(payment, order_id), PaymentCharged)
    await payment.check()


async def test_a_frozen_worker_that_wakes_up_after_its_lease_sends_nothing(payment: Any) -> None:
    worker, other = payment.instances[0], payment.instances[1]
    await other.kill()
    await worker.kill()
    worker.spawn(crash_point="before_request:1:freeze")
    order_id = await charge(payment)
    await worker.frozen()
    await other.start()  # asks, finds nothing, and makes the charge
    await eventually(
        lambda: lines(payment, order_id), within_s=30, describe="the other one has charged"
    )
    sent = await payment.metric("payment_gateway_calls_total", number=1, kind="charge")
    worker.thaw()
    await worker.wait_ready()
    await eventually(
        lambda: payment.metric("payment_gateway_calls_total", kind="charge", answer="lease_over"),
        within_s=30,
        describe="the frozen one saw that its lease was over",
    )
    assert (
        await payment.metric("payment_gateway_calls_total", kind="charge", answer="captured") == 0
    )
    assert await payment.metric("payment_gateway_calls_total", number=1, kind="charge") == sent
    assert isinstance(await charged(payment, order_id), PaymentCharged)
    assert len(await lines(payment, order_id)) == 1
    await worker.restart()
    await payment.check()


async def test_f33_the_gateway_is_down_and_wallets_go_on(payment: Any) -> None:
    user_id = new_id("u")
    await payment.fill([user_id], money=100_000)
    await payment.gateway.process.kill()
    held = [await charge(payment) for _ in range(100)]
    doomed, kept = held[:10], held[10:]
    async with payment.database.connection("payment") as connection:
        await eventually(
            lambda: connection.fetchval(
                "SELECT count(*) FROM payment WHERE order_id = ANY ($1)", held
            ),
            accept=lambda count: count == 100,
            within_s=30,
            describe="all of them are held",
        )
    await eventually(
        lambda: payment.metric("payment_gateway_breaker", payment_gateway_breaker="open"),
        within_s=30,
        describe="the breaker is open",
    )
    by_wallet = await charge(payment, method="wallet", user_id=user_id)
    assert isinstance(await charged(payment, by_wallet), PaymentCharged)
    # Nothing was ever sent for these: that is certain, and said at once.
    await payment.topics.publish(COMMANDS, [refund_payment(order_id) for order_id in doomed])
    for order_id in doomed:
        assert (await refunded(payment, order_id)).effect is Effect.NOTHING

    await payment.gateway.start()
    answers = await payment.answers(
        REPLIES, [charge_payment(order_id) for order_id in kept], within_s=60
    )
    assert {type(answer) for answer in answers} == {PaymentCharged}
    assert {line["reference"] for line in await payment.gateway.book()}.isdisjoint(doomed)
    await payment.check()
