"""A charge that is answered, lost, absent, late or given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from payment.calls import RETURNED, Absent, Captured, Declined, NotTaken, Pace, Refunded, Silent
from shared.contracts.payment import CallState, PaymentState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)
PACE = Pace()
CHARGED = "points 9, gateway 51"
CAPTURED = Captured("ch_1", 51, "KRW")
DECLINED = Declined("card_declined")
LOST = Silent("no answer in 3 s")


def test_a_charge_is_handed_over_with_its_points_held_and_nothing_is_said(order: Any) -> None:
    assert order.charge() is None
    assert (order.state, order.points, order.handed) == (PaymentState.PENDING, 11, ["payment:o1"])
    call = order.call()
    assert (call.state, call.owner, call.amount) == (CallState.INTENDED, "payment-0", 51)
    assert call.next_at == NOW + LEASE
    assert order.charge() is None
    assert order.answered(CAPTURED, sent=True) == CHARGED
    assert order.charge() == CHARGED
    assert order.points == 11


def test_f33_without_room_a_charge_waits_for_whoever_has_some(order: Any) -> None:
    order.charge(free=0)
    assert order.handed == []
    assert (order.call().owner, order.call().next_at, order.call().attempt) == (None, NOW, 0)


def test_f24_a_charge_without_an_answer_is_asked_for_and_found(order: Any) -> None:
    order.charge()
    assert order.answered(LOST, sent=True) is None
    assert (order.state, order.call().state) == (PaymentState.PENDING, CallState.UNKNOWN)
    order.wait(1)
    order.claim()
    assert order.answered(CAPTURED, sent=False) == CHARGED


def test_f25_a_charge_that_did_not_happen_is_sent_again_under_the_same_key(order: Any) -> None:
    order.charge()
    order.answered(LOST, sent=True)
    order.claim()
    assert order.answered(Absent(), sent=False) is None
    assert (order.state, order.call().state) == (PaymentState.PENDING, CallState.ABSENT)
    assert order.call().next_at == order.now, "at once"
    order.claim()
    assert order.answered(CAPTURED, sent=True) == CHARGED
    assert (order.call().key, order.call().sends) == ("payment:o1", 2)


def test_f25_what_the_gateway_may_have_forgotten_is_left_to_a_person(order: Any) -> None:
    order.charge()
    order.answered(LOST, sent=True)
    order.wait(24 * 3_600)
    order.claim()
    assert order.answered(Absent(), sent=False) is None
    assert (order.state, order.call().state) == (PaymentState.PENDING, CallState.QUARANTINED)
    assert order.hear(CAPTURED) == CHARGED, "though what is certain still counts"


def test_f25_a_request_settled_late_was_sent_when_its_lease_began(order: Any) -> None:
    """A process that was frozen for a day doesn't make its key any younger."""
    order.charge()
    call = order.call()
    order.wait(24 * 3_600 - 9)
    order.hear(LOST, attempt=1, expires_at=call.next_at, leased_at=NOW)
    order.claim()
    order.answered(Absent(), sent=False)
    assert order.call().state is CallState.QUARANTINED


def test_f26_nothing_is_said_before_the_last_request_has_expired(order: Any) -> None:
    order.charge()
    order.answered(LOST, sent=True)
    assert order.refund() is None
    assert order.state is PaymentState.CANCELLING
    order.wait(4)
    order.claim()
    assert order.answered(Absent(), sent=False) is None
    assert (order.state, order.call().next_at) == (PaymentState.CANCELLING, NOW + LEASE)
    order.wait(6)
    order.claim()
    assert order.answered(Absent(), sent=False) == "nothing"
    assert (order.state, order.points) == (PaymentState.TOMBSTONE, 20)
    assert order.charge() == "already_refunded"


def test_f26_absence_from_before_the_expiry_counts_for_nothing_when_heard_later(
    order: Any,
) -> None:
    order.charge()
    order.answered(LOST, sent=True)
    order.refund()
    order.wait(4)
    order.claim()
    order.wait(7)  # the answer waits to be settled, and the request may have arrived meanwhile
    assert order.answered(Absent(), sent=False) is None
    assert order.state is PaymentState.CANCELLING
    assert (order.call().next_at or NOW) <= order.now


@pytest.mark.parametrize(
    "nothing",
    [LOST, Silent("500"), NotTaken("429", 30.0), NotTaken("the circuit breaker is open")],
    ids=str,
)
def test_f26_that_nobody_answered_is_no_word_of_the_gateway(order: Any, nothing: Any) -> None:
    """It said so once, while a request was on its way. Silence does not say it again."""
    order.charge()
    order.answered(LOST, sent=True)
    order.refund()
    order.wait(4)
    order.claim()
    order.answered(Absent(), sent=False)
    order.wait(20)
    order.claim()
    assert order.answered(nothing, sent=False) is None
    assert order.state is PaymentState.CANCELLING
    assert order.call().next_at > order.now


@pytest.mark.parametrize("kind", ["payment", "refund"])
def test_f28_what_is_absent_waits_too_where_the_gateway_asks_for_it(order: Any, kind: str) -> None:
    order.charge()
    if kind == "refund":
        order.answered(CAPTURED, sent=True)
        order.refund()
    order.answered(LOST, sent=True, kind=kind)
    order.claim(kind)
    order.answered(Absent(), sent=False, kind=kind)
    order.claim(kind)
    order.answered(NotTaken("429", 30.0), sent=True, kind=kind)
    assert order.call(kind).next_at == order.now + timedelta(seconds=30)
    order.wait(30)
    order.claim(kind)
    order.answered(NotTaken("no connection"), sent=True, kind=kind)
    assert order.call(kind).next_at > order.now


def test_f26_a_watch_bears_silence(order: Any) -> None:
    order.give_up()
    for nothing in (LOST, NotTaken("429", 30.0), Absent()):
        order.wait(30)
        order.claim()
        assert order.answered(nothing, sent=False) is None
        assert (order.state, order.call().state) == (PaymentState.TOMBSTONE, CallState.WATCHED)
        assert order.call().next_at > order.now


def test_f32_a_decline_lifts_no_quarantine_of_what_was_captured(order: Any) -> None:
    order.charge()
    order.answered(Captured("ch_1", 510, "KRW"), sent=True)
    assert order.call().state is CallState.QUARANTINED
    assert order.hear(DECLINED) is None
    assert order.call().state is CallState.QUARANTINED
    assert order.hear(Declined(RETURNED)) == "payment_declined", "somebody gave it back by hand"


def test_who_asks_for_the_refund_again_is_heard_at_once(order: Any) -> None:
    """An operator's `retry` sends the command again."""
    order.charge()
    order.answered(CAPTURED, sent=True)
    order.refund()
    order.answered(NotTaken("429", 30.0), sent=True, kind="refund")
    assert order.call("refund").next_at > order.now
    assert order.refund() is None
    assert order.call("refund").next_at == order.now


def test_f26_a_late_capture_is_refunded_and_nobody_is_told_otherwise(order: Any) -> None:
    order.give_up()
    assert order.call().next_at == order.now + PACE.interval, "watched"
    order.wait(15)
    order.claim()
    assert order.answered(CAPTURED, sent=False) is None
    assert (order.state, order.handed) == (PaymentState.REFUNDING, ["refund:o1"])
    payment = order.tables.payments["o1"]
    assert (payment.captured, payment.is_late, order.points) == (51, True, 20)
    assert order.refund() == "nothing"
    assert order.charge() == "already_refunded"
    assert order.answered(Refunded(51, "KRW"), kind="refund", sent=True) is None
    assert (order.state, order.points) == (PaymentState.REFUNDED, 20)
    assert order.refund() == "nothing"
    assert order.charge() == "already_refunded"


def test_f26_a_charge_is_watched_for_as_long_as_its_key_is_known(order: Any) -> None:
    order.give_up()
    for _ in range(24 * 240):
        if order.call().next_at is None:
            break
        order.now = order.call().next_at
        order.claim()
        assert order.answered(Absent(), sent=False) is None
    assert order.call().next_at is None
    assert order.now >= NOW + PACE.key_retention - LEASE - PACE.interval
    assert (order.state, order.call().state) == (PaymentState.TOMBSTONE, CallState.WATCHED)


def test_f27_a_refund_finds_a_charge_that_nobody_has_sent(order: Any) -> None:
    order.charge(free=0)
    assert order.refund() == "nothing"
    assert (order.call().state, order.points) == (CallState.VOID, 20)


def test_f14_a_charge_and_its_refund_in_one_chunk_are_never_sent(order: Any) -> None:
    assert order.both() == "nothing"
    assert (order.handed, order.points) == ([], 20)
    assert (order.call().state, order.call("refund").state) == (CallState.VOID, CallState.VOID)
    assert order.charge() == "already_refunded"
