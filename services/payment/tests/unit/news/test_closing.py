"""What becomes of a quarantined call once an operator says that no money is at the gateway."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from payment.calls import (
    RETURNED,
    Absent,
    Captured,
    Contradiction,
    Declined,
    Pace,
    Refunded,
    Silent,
)
from shared.contracts.payment import CallState, PaymentState

CAPTURED = Captured("ch_1", 51, "KRW")
TOO_MUCH = Captured("ch_1", 60, "KRW")
GIVEN_BACK = Refunded(51, "KRW")
DAYS = timedelta(days=3)


def closed(order: Any, *keys: str, said: str | None) -> None:
    """Closes these, and says just that; a second time there is nothing to close."""
    before = {key: call for key, call in order.tables.calls.items() if key not in keys}
    assert order.close() == (list(keys), [said] if said else [])
    for key, call in before.items():
        assert order.tables.calls[key] == call
    assert order.close() == ([], [])


@pytest.mark.parametrize(
    "answer", [TOO_MUCH, Captured("ch_1", 51, "USD"), Contradiction("422 idempotency_key_reused")]
)
def test_a_pending_payment_is_refused_and_its_points_come_back(order: Any, answer: Any) -> None:
    order.charge()
    order.answered(answer, sent=True)
    closed(order, "payment:o1", said="payment_declined")
    assert (order.state, order.call().state) == (PaymentState.REFUSED, CallState.DECLINED)
    assert (order.points, order.call().quarantine) == (20, None)
    assert (order.charge(), order.refund()) == ("payment_declined", "nothing")


def test_a_payment_that_is_unknown_for_too_long_is_closed_as_well(order: Any) -> None:
    order.charge()
    order.answered(Silent("504"), sent=True)
    order.now += DAYS
    order.claim()
    order.answered(Silent("504"), sent=False)
    assert order.call().state is CallState.QUARANTINED
    closed(order, "payment:o1", said="payment_declined")


def test_a_cancelled_one_is_a_tombstone_and_its_refund_is_answered(order: Any) -> None:
    order.charge()
    order.answered(TOO_MUCH, sent=True)
    assert order.refund() is None
    assert order.close() == (["payment:o1"], ["nothing"])
    assert (order.state, order.points) == (PaymentState.TOMBSTONE, 20)
    assert (order.call().state, order.call("refund").state) == (CallState.DECLINED, CallState.VOID)


def test_both_calls_of_a_cancelled_one_are_closed_at_once(order: Any) -> None:
    order.charge()
    order.refund()
    order.hear(GIVEN_BACK, "refund")
    order.hear(TOO_MUCH)
    closed(order, "payment:o1", "refund:o1", said="nothing")
    assert (order.state, order.call("refund").state) == (PaymentState.TOMBSTONE, CallState.VOID)


def test_a_refund_whose_charge_has_no_outcome_is_not_closed_yet(order: Any) -> None:
    """Money may still be taken, and then it has to go back."""
    order.charge()
    order.refund()
    order.hear(GIVEN_BACK, "refund")
    before = dict(order.tables.calls)
    assert order.close() == ([], [])
    assert (order.state, order.tables.calls) == (PaymentState.CANCELLING, before)
    order.hear(CAPTURED)
    assert order.state is PaymentState.REFUNDING
    closed(order, "refund:o1", said="undone")


def test_a_refund_of_another_amount_is_given_back(order: Any) -> None:
    order.charge()
    order.answered(CAPTURED, sent=True)
    order.refund()
    order.answered(Refunded(50, "KRW"), kind="refund", sent=True)
    assert order.call("refund").state is CallState.QUARANTINED
    closed(order, "refund:o1", said="undone")
    assert (order.state, order.points) == (PaymentState.REFUNDED, 20)
    assert order.call("refund").state is CallState.SUCCEEDED
    assert (order.charge(), order.refund()) == ("points 9, gateway 51", "undone")


def test_a_late_capture_that_can_not_be_refunded_says_nothing_again(order: Any) -> None:
    order.give_up()
    order.hear(CAPTURED)
    order.answered(Contradiction("422 refund_exceeds_charge"), kind="refund", sent=True)
    closed(order, "refund:o1", said=None)
    assert (order.state, order.refund()) == (PaymentState.REFUNDED, "nothing")


def test_a_refused_payment_that_was_captured_is_declined_again(order: Any) -> None:
    order.charge()
    order.answered(Declined("card_declined"), sent=True)
    order.hear(CAPTURED)
    closed(order, "payment:o1", said=None)
    assert (order.state, order.call().state) == (PaymentState.REFUSED, CallState.DECLINED)


def test_a_tombstone_needs_no_watching_any_more(order: Any) -> None:
    order.give_up()
    order.hear(TOO_MUCH)
    closed(order, "payment:o1", said=None)
    assert (order.state, order.call().state) == (PaymentState.TOMBSTONE, CallState.DECLINED)


def test_what_was_given_back_to_a_tombstone_unasked_was_never_asked_for(order: Any) -> None:
    order.give_up()
    order.hear(GIVEN_BACK, "refund")
    closed(order, "refund:o1", said=None)
    assert (order.state, order.call().state) == (PaymentState.TOMBSTONE, CallState.WATCHED)
    assert order.call("refund").state is CallState.VOID
    order.hear(CAPTURED)
    assert (order.state, order.handed) == (PaymentState.REFUNDING, ["refund:o1"])


def test_what_is_not_quarantined_is_left_alone(order: Any) -> None:
    assert order.close() == ([], [])
    order.charge()
    assert order.close() == ([], [])
    order.answered(CAPTURED, sent=True)
    assert order.close() == ([], [])
    assert order.state is PaymentState.CAPTURED


@pytest.mark.parametrize("older", [CAPTURED, TOO_MUCH, Declined(RETURNED), Contradiction("409")])
def test_older_news_of_the_same_charge_change_nothing(order: Any, older: Any) -> None:
    order.charge()
    order.answered(TOO_MUCH, sent=True)
    order.close()
    assert order.hear(older) is None
    assert (order.state, order.call().state) == (PaymentState.REFUSED, CallState.DECLINED)


def test_another_charge_needs_a_person_again(order: Any) -> None:
    order.charge()
    order.answered(TOO_MUCH, sent=True)
    order.close()
    order.hear(CAPTURED._replace(reference="ch_2"))
    assert order.call().state is CallState.QUARANTINED
    closed(order, "payment:o1", said=None)


def test_nobody_asks_about_a_closed_call(order: Any) -> None:
    order.charge()
    order.answered(TOO_MUCH, sent=True)
    order.close()
    assert (order.call().next_at, order.call().owner) == (None, None)
    assert order.hear(Absent(), attempt=order.call().attempt) is None
    assert not Pace().forgets(order.call(), order.now)
