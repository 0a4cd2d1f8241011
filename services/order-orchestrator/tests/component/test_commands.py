"""What upstream systems send: twice, changed, spoiled, too early and too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.order_parts import PaymentChoice, PaymentMethod
from shared.testing.builders import cancel_order, pay_order, place_order, wire
from shared.testing.kafka import Record

if TYPE_CHECKING:
    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import Stage

SILENT = "silent"
DEAD = "order-orchestrator-requests"


async def dead_letters_of(stage: Stage, order_id: str) -> list[str]:
    """The reasons why commands of this order are dead letters, in the order of their coming."""
    return [
        record.headers["dlq-reason"]
        for record in await stage.dead_letters()
        if order_id.encode() in (record.value or b"")
    ]


class TestPlaceOrder:
    async def test_f1_the_same_order_again_gets_its_outcome_again(
        self, stage: Stage, order_id: str
    ) -> None:
        place = place_order(order_id, reference="first")
        stage.cast(order_id, charge=["refused"])
        await stage.publish(place, place)
        outcome = await stage.outcome(order_id)
        assert [event.type for event in await stage.events(order_id)] == [
            "OrderAccepted",
            "OrderRejected",
        ]
        sent = list(stage.commands(order_id))
        await stage.publish(place, place.model_copy(update={"reference": "second"}))
        await stage.all_read()
        again = [event for event in await stage.events(order_id) if event.type == "OrderRejected"]
        assert again == [outcome] * 3
        assert outcome.reference == "first"
        assert stage.commands(order_id) == sent

    async def test_other_content_under_its_id_is_refused(self, stage: Stage, order_id: str) -> None:
        await stage.publish(place_order(order_id, items={"P001": 1}))
        await stage.publish(place_order(order_id, items={"P001": 2}))
        refusal = await stage.refusal(order_id)
        assert (refusal.command, refusal.reason) == ("PlaceOrder", "order_id_reused")
        assert (await stage.outcome(order_id)).type == "OrderConfirmed"
        assert await dead_letters_of(stage, order_id) == ["order_id_reused"]
        (record,) = [record for record in await stage.dead_letters() if record.key == order_id]
        assert record.json["items"] == [{"productId": "P001", "quantity": 2}]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("items", []),
            ("items", [{"productId": "P001", "quantity": 0}]),
            ("items", [{"productId": "P001", "quantity": -1}]),
            ("items", [{"productId": "P001", "quantity": 2**63}]),
            ("items", [{"productId": "P001", "quantity": True}]),
            ("items", [{"productId": "P001", "quantity": "3"}]),
            ("items", [{"productId": "P001", "quantity": 1.5}]),
            ("expectedTotal", 10.0),
            ("pay", "never"),
            ("userId", "no user\N{NO-BREAK SPACE}"),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_f6_an_invalid_order_with_a_readable_id_is_rejected(
        self, stage: Stage, order_id: str, field: str, value: Any
    ) -> None:
        await stage.publish(wire(place_order(order_id)) | {field: value})  # type: ignore[arg-type]
        outcome = await stage.outcome(order_id)
        assert (outcome.type, outcome.reason) == ("OrderRejected", "invalid_command")
        assert field in outcome.note
        assert stage.commands(order_id) == []
        assert await dead_letters_of(stage, order_id) == ["invalid"]

    async def test_a_valid_order_under_a_rejected_id_is_refused(
        self, stage: Stage, order_id: str
    ) -> None:
        await stage.publish(wire(place_order(order_id)) | {"items": []})  # type: ignore[arg-type]
        await stage.outcome(order_id)
        await stage.publish(place_order(order_id))
        assert (await stage.refusal(order_id)).reason == "order_id_reused"
        assert stage.commands(order_id) == []

    async def test_an_invalid_copy_leaves_the_order_as_it_is(
        self, stage: Stage, order_id: str
    ) -> None:
        await stage.publish(place_order(order_id))
        await stage.publish(wire(place_order(order_id)) | {"items": None})  # type: ignore[arg-type]
        assert (await stage.refusal(order_id)).reason == "invalid_command"
        assert (await stage.outcome(order_id)).type == "OrderConfirmed"

    async def test_f4_what_has_no_id_is_a_dead_letter_and_others_go_on(
        self, stage: Stage, order_id: str
    ) -> None:
        before = len(await stage.dead_letters())
        bad = [
            b"",
            b"{",
            b"null",
            b'{"type":"PlaceOrder"}',
            b'{"type":"PlaceOrder","orderId":"a","orderId":"b"}',
            b'{"type":"BuyOrder","orderId":"a"}',
            b"[" * 100_000,
            b'{"type":"PlaceOrder","x":' + b"9" * 5_000 + b"}",
            b'{"type":"PlaceOrder","x":"\\ud800"}',
            b'{"type":"PlaceOrder","x":NaN}',
            b"x" * 300_000,
        ]
        await stage.publish(*bad, place_order(order_id))
        assert (await stage.outcome(order_id, within_s=60)).type == "OrderConfirmed"
        await stage.all_read()
        records = (await stage.dead_letters())[before:]
        assert len(records) == len(bad)
        for record in records:
            assert record.value in bad
            assert record.headers["dlq-reason"]
            assert record.headers["dlq-original-topic"] == "orders.commands.v1"
            assert record.headers["dlq-original-offset"].isdecimal()

    @pytest.mark.parametrize("key", [None, "another"])
    async def test_f9_the_body_rules_not_the_key(
        self, stage: Stage, order_id: str, key: str | None
    ) -> None:
        await stage.publish(Record(place_order(order_id).to_bytes(), key))
        assert (await stage.outcome(order_id)).type == "OrderConfirmed"
        (reserve,) = await stage.topics.wait_for(
            "stock.commands.v1", lambda record: record.json["commandId"] == f"{order_id}:reserve:do"
        )
        assert reserve.key == order_id

    async def test_another_price_than_expected_is_rejected_before_the_charge(
        self, stage: Stage, order_id: str
    ) -> None:
        await stage.publish(
            place_order(order_id, coupon_id="WELCOME10", expected_total=901),
            place_order(f"{order_id}-b", coupon_id="WELCOME10", expected_total=900),
        )
        assert (await stage.outcome(order_id)).reason == "price_changed"
        assert "charge:do" not in stage.commands(order_id)
        assert sorted(stage.commands(order_id)[2:]) == ["hold:undo", "reserve:undo"]
        assert (await stage.outcome(f"{order_id}-b")).type == "OrderConfirmed"

    async def test_f1_the_whole_topic_again_changes_nothing(
        self, stage: Stage, order_id: str
    ) -> None:
        await stage.publish(place_order(order_id), cancel_order(f"{order_id}-never"))
        await stage.outcome(order_id)
        await stage.all_read()
        sent = len(stage.sent)
        sagas = await stage.value("SELECT sum(version) FROM saga WHERE timer_at IS NULL")
        await stage.publish(*await stage.topics.read("orders.commands.v1"))
        await stage.all_read()
        assert await stage.value("SELECT sum(version) FROM saga WHERE timer_at IS NULL") == sagas
        # timers of orders that other tests hold up may have sent again
        assert not [name for name, _ in stage.sent[sent:] if _.order_id == order_id]  # type: ignore[attr-defined]
        await stage.is_sound()


class TestPayOrder:
    @pytest.fixture
    async def awaiting(self, stage: Stage, order_id: str) -> str:
        """An order that awaits its payment."""
        await stage.publish(place_order(order_id, pay="later", coupon_id="WELCOME10"))
        event = await stage.event(order_id, "OrderAwaitingPayment")
        assert (event.total, event.discount) == (900, 100)
        assert stage.commands(order_id) == ["reserve:do", "hold:do"]
        return order_id

    async def test_the_first_payment_counts(self, stage: Stage, awaiting: str) -> None:
        choice = PaymentChoice(method=PaymentMethod.GATEWAY, points=7)
        await stage.publish(
            pay_order(awaiting, command_id="pay-1", payment=choice),
            pay_order(awaiting, command_id="pay-1", payment=choice),
            pay_order(awaiting, command_id="pay-2"),
        )
        assert (await stage.outcome(awaiting)).type == "OrderConfirmed"
        charge = await stage.command(awaiting, "charge:do")
        assert (charge.method, charge.points, charge.amount) == ("gateway", 7, 900)
        assert stage.commands(awaiting).count("charge:do") == 1
        refusal = await stage.refusal(awaiting)
        assert (refusal.command_id, refusal.reason) == ("pay-2", "already_paid")

    @pytest.mark.parametrize(
        ("command", "charge", "type_"),
        [
            (pay_order, "done", "OrderConfirmed"),
            (pay_order, "refused", "OrderRejected"),
            (cancel_order, "done", "OrderCancelled"),
        ],
    )
    async def test_f1_what_comes_again_gets_the_outcome_again(
        self, stage: Stage, awaiting: str, command: Any, charge: str, type_: str
    ) -> None:
        if charge == "refused":
            stage.cast(awaiting, charge=["refused"])
        await stage.publish(command(awaiting))
        outcome = await stage.outcome(awaiting)
        await stage.publish(command(awaiting))
        await stage.all_read()
        again = [event for event in await stage.events(awaiting) if event.type == type_]
        assert again == [outcome] * 2
        sent = stage.commands(awaiting)
        assert len(sent) == len(set(sent)), sent

    async def test_a_decline_ends_the_order(self, stage: Stage, awaiting: str) -> None:
        stage.cast(awaiting, charge=["refused"])
        await stage.publish(pay_order(awaiting))
        assert (await stage.outcome(awaiting)).reason == "insufficient_balance"
        await stage.publish(pay_order(awaiting, command_id="again"))
        assert (await stage.refusal(awaiting)).reason == "already_paid"

    async def test_another_users_order_looks_like_none(self, stage: Stage, awaiting: str) -> None:
        await stage.publish(pay_order(awaiting, user_id="stranger"))
        refusal = await stage.refusal(awaiting)
        assert refusal.reason == "unknown_order"
        assert (await stage.saga(awaiting))["state"] == "AWAITING_PAYMENT"
        assert await dead_letters_of(stage, awaiting) == ["unknown_order"]

    async def test_an_order_that_is_paid_at_once_takes_none(
        self, stage: Stage, order_id: str
    ) -> None:
        await stage.publish(place_order(order_id))
        await stage.outcome(order_id)
        await stage.publish(pay_order(order_id))
        assert (await stage.refusal(order_id)).reason == "not_awaiting_payment"

    async def test_while_the_steps_before_it_run(
        self, stage: Stage, answers: Answers, order_id: str
    ) -> None:
        stage.cast(order_id, reserve=[SILENT])
        await stage.publish(place_order(order_id, pay="later"))
        command = await stage.command(order_id, "reserve:do")
        await stage.publish(pay_order(order_id))
        await stage.all_read()
        await stage.reply(answers.done(command))
        assert (await stage.outcome(order_id)).type == "OrderConfirmed"
        types = {event.type for event in await stage.events(order_id)}
        assert "OrderAwaitingPayment" not in types

    async def test_f2_before_its_order(self, stage: Stage, order_id: str) -> None:
        await stage.publish(Record(pay_order(order_id).to_bytes(), "another partition"))
        await stage.all_read()
        await stage.publish(place_order(order_id, pay="later"))
        assert (await stage.outcome(order_id)).type == "OrderConfirmed"

    async def test_f5_without_its_user_it_is_refused_and_the_order_goes_on(
        self, stage: Stage, awaiting: str
    ) -> None:
        broken = wire(pay_order(awaiting))
        del broken["userId"]
        await stage.publish(broken)  # type: ignore[arg-type]
        refusal = await stage.refusal(awaiting)
        assert (refusal.command, refusal.reason) == ("PayOrder", "invalid_command")
        await stage.publish(pay_order(awaiting))
        assert (await stage.outcome(awaiting)).type == "OrderConfirmed"


class TestCancelOrder:
    @pytest.mark.parametrize("verdict", ["done", "refused"])
    async def test_f16_while_the_payment_is_under_way_its_outcome_is_awaited(
        self, stage: Stage, answers: Answers, order_id: str, verdict: str
    ) -> None:
        stage.cast(order_id, charge=[SILENT])
        await stage.publish(place_order(order_id, coupon_id="WELCOME10"))
        charge = await stage.command(order_id, "charge:do")
        await stage.publish(cancel_order(order_id, reason="too dear"))
        await stage.all_read()
        document = await stage.saga(order_id)
        assert document["history"][-1]["cause"] == "CancelOrder"
        assert document["state"] == "CHARGING", "the intent is kept, nothing is undone yet"
        await stage.reply(getattr(answers, verdict)(charge))
        outcome = await stage.outcome(order_id)
        assert (outcome.type, outcome.reason) == ("OrderCancelled", "cancelled_by_user")
        assert outcome.note == "too dear"
        undos = {name for name in stage.commands(order_id) if name.endswith(":undo")}
        refund = {"charge:undo"} if verdict == "done" else set()
        assert undos == refund | {"hold:undo", "reserve:undo"}

    async def test_f16_where_no_answer_comes_the_charge_is_undone_in_doubt(
        self, stage: Stage, order_id: str
    ) -> None:
        """At the next timer, long before the order's deadline."""
        stage.cast(order_id, charge=[SILENT], charge_undo=["nothing"])
        await stage.publish(place_order(order_id))
        await stage.command(order_id, "charge:do")
        await stage.publish(cancel_order(order_id))
        assert (await stage.outcome(order_id)).type == "OrderCancelled"
        assert stage.commands(order_id).count("charge:do") == 1
        assert "charge:undo" in stage.commands(order_id)

    async def test_f16_while_nothing_is_owed_at_once(self, stage: Stage, order_id: str) -> None:
        await stage.publish(place_order(order_id, pay="later"))
        await stage.event(order_id, "OrderAwaitingPayment")
        await stage.publish(cancel_order(order_id), cancel_order(order_id))
        assert (await stage.outcome(order_id)).reason == "cancelled_by_user"
        assert stage.commands(order_id) == ["reserve:do", "reserve:undo"]

    async def test_f16_after_the_pivot_it_is_too_late(self, stage: Stage, order_id: str) -> None:
        await stage.publish(place_order(order_id))
        assert (await stage.outcome(order_id)).type == "OrderConfirmed"
        await stage.publish(cancel_order(order_id))
        refusal = await stage.refusal(order_id)
        assert (refusal.command, refusal.reason) == ("CancelOrder", "too_late")
        assert refusal.command_id == f"{order_id}:cancel"
        assert await dead_letters_of(stage, order_id) == ["too_late"]
        types = [event.type for event in await stage.events(order_id)]
        assert "OrderCancelled" not in types

    async def test_by_a_stranger_it_is_refused(self, stage: Stage, order_id: str) -> None:
        await stage.publish(place_order(order_id, pay="later"))
        await stage.event(order_id, "OrderAwaitingPayment")
        await stage.publish(cancel_order(order_id, user_id="stranger"))
        assert (await stage.refusal(order_id)).reason == "unknown_order"
        assert (await stage.saga(order_id))["state"] == "AWAITING_PAYMENT"

    async def test_f2_before_its_order_nothing_is_sent(self, stage: Stage, order_id: str) -> None:
        await stage.publish(Record(cancel_order(order_id).to_bytes(), "another partition"))
        await stage.all_read()
        await stage.publish(place_order(order_id))
        assert (await stage.outcome(order_id)).type == "OrderCancelled"
        assert stage.commands(order_id) == []

    async def test_f11_a_replayed_dead_letter_has_one_effect(
        self, stage: Stage, order_id: str
    ) -> None:
        """Refused as too late, replayed as it was: refused again, and nothing else."""
        await stage.publish(place_order(order_id))
        await stage.until(order_id, state="CONFIRMED")
        await stage.publish(cancel_order(order_id))
        await stage.refusal(order_id)
        before = await stage.saga(order_id)
        (dead,) = [record for record in await stage.dead_letters() if record.key == order_id]
        await stage.publish(Record(dead.value, dead.key))
        await stage.all_read()
        assert await stage.saga(order_id) == before
        assert await dead_letters_of(stage, order_id) == ["too_late"] * 2
