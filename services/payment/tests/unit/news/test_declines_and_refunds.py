"""Charges that are declined, refunds, and what can't be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from payment.calls import (
    Absent,
    Answer,
    Captured,
    Contradiction,
    Declined,
    NotTaken,
    Pace,
    Refunded,
    Silent,
)
from shared.contracts.payment import CallState, PaymentState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)
PACE = Pace()
CHARGED = "points 9, gateway 51"
CAPTURED = Captured("ch_1", 51, "KRW")
DECLINED = Declined("card_declined")
LOST = Silent("no answer in 3 s")


@pytest.mark.parametrize("answer", [NotTaken("429", 1.0), NotTaken("no connection")])
def test_f28_a_charge_that_was_not_taken_is_cancelled_at_once(order: Any, answer: Answer) -> None:
    order.charge()
    assert order.refund() is None
    assert order.answered(answer, sent=True) == "nothing"
    assert (order.state, order.call().state) == (PaymentState.TOMBSTONE, CallState.VOID)


def test_f28_a_decline_refuses_and_gives_the_points_back(order: Any) -> None:
    order.charge()
    assert order.answered(DECLINED, sent=True) == "payment_declined"
    assert (order.state, order.points) == (PaymentState.REFUSED, 20)
    assert order.hear(CAPTURED) is None
    assert order.hear(replace_reference(CAPTURED)) is None
    assert (order.state, order.call().state) == (PaymentState.REFUSED, CallState.QUARANTINED)


def replace_reference(captured: Captured) -> Captured:
    return captured._replace(reference="ch_2")


def test_f28_a_decline_answers_the_refund_that_waits_for_it(order: Any) -> None:
    order.charge()
    order.refund()
    assert order.answered(DECLINED, sent=True) == "nothing"
    assert (order.state, order.points) == (PaymentState.TOMBSTONE, 20)


def test_f30_a_refund_is_asked_for_until_it_is_settled(order: Any) -> None:
    order.charge()
    order.answered(CAPTURED, sent=True)
    assert order.refund() is None
    assert (order.state, order.handed) == (PaymentState.REFUNDING, ["refund:o1"])
    assert order.call("refund").reference == "ch_1"
    for answer, sent in ((LOST, True), (Absent(), False), (NotTaken("429", 1.0), True)):
        assert order.answered(answer, kind="refund", sent=sent) is None
        assert order.refund() is None
        order.claim("refund")
    assert order.answered(Refunded(51, "KRW"), kind="refund", sent=True) == "undone"
    assert (order.state, order.points) == (PaymentState.REFUNDED, 20)
    assert order.hear(Refunded(51, "KRW"), "refund") is None
    assert (order.refund(), order.charge()) == ("undone", CHARGED)


def test_f30_a_capture_whose_refund_waits_is_given_back(order: Any) -> None:
    order.charge()
    assert order.refund() is None
    assert order.hear(CAPTURED) is None
    assert (order.state, order.handed) == (PaymentState.REFUNDING, ["refund:o1"])
    assert order.answered(Refunded(51, "KRW"), kind="refund", sent=True) == "undone"


@pytest.mark.parametrize("is_given_up", [True, False])
def test_f30_money_given_back_unasked_moves_nothing_however_often_it_is_told(
    order: Any, is_given_up: bool
) -> None:
    if is_given_up:
        order.give_up()
    else:
        order.charge()
        order.refund()
    before = dict(order.tables.entries), order.state
    for _ in range(3):
        assert order.hear(Refunded(51, "KRW"), "refund") is None
        assert order.call("refund").state is CallState.QUARANTINED
    assert (order.tables.entries, order.state) == before
    assert order.hear(CAPTURED) is None
    assert (order.state, order.handed) == (PaymentState.REFUNDING, [])
    assert order.call("refund").reference == "ch_1"


def test_f32_another_amount_moves_nothing_and_says_nothing(order: Any) -> None:
    order.charge()
    assert order.answered(Captured("ch_1", 50, "KRW"), sent=True) is None
    assert (order.state, order.call().state) == (PaymentState.PENDING, CallState.QUARANTINED)
    assert order.refund() is None
    assert (order.state, order.points) == (PaymentState.CANCELLING, 11)


def test_f29_other_content_under_the_key_is_a_contradiction_and_no_refusal(order: Any) -> None:
    order.charge()
    answer = Contradiction("422 idempotency_key_reused")
    assert order.answered(answer, sent=True) is None
    assert (order.state, order.call().state) == (PaymentState.PENDING, CallState.QUARANTINED)


def test_news_of_nothing_known_change_nothing(order: Any) -> None:
    assert order.hear(CAPTURED) is None
    assert not order.tables.payments
