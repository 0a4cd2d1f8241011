"""What may be sent when, and what an answer means: bounds by property, rules by example."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment.calls import (
    CLOSED,
    Absent,
    Answer,
    Call,
    Captured,
    Contradiction,
    Declined,
    Finding,
    NotTaken,
    Pace,
    Refunded,
    Silent,
    key_of,
    learn,
    must_ask,
)
from shared.contracts.payment import CallKind, CallState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)
PACE = Pace()
SECOND = timedelta(seconds=1)


def call_in(state: CallState, kind: CallKind = CallKind.CHARGE, **changes: object) -> Call:
    """Under a lease that began a second ago, where its state allows for one."""
    is_open = state not in CLOSED | {CallState.WAITING, CallState.QUARANTINED}
    call = Call(
        key_of(kind, "o1"), "o1", kind, state, "u1", 60, "KRW", "o1:charge:do", "",
        quarantine="why" if state is CallState.QUARANTINED else None,
        owner="payment-0" if is_open else None,
        attempt=2,
        next_at=NOW + 9 * SECOND if is_open else None,
    )  # fmt: skip
    return replace(call, **changes)


def found(call: Call, answer: Answer, *, sent: bool = False, attempt: int | None = 2) -> Finding:
    until = NOW + 9 * SECOND
    return Finding(call.key, answer, attempt, until if sent else None, until - LEASE)


def told(call: Call, answer: Answer) -> Call:
    """What is known after a callback."""
    return learn(call, Finding(call.key, answer), NOW, PACE)


OPEN = [CallState.INTENDED, CallState.UNKNOWN, CallState.ABSENT]
CAPTURED = Captured("ch_1", 60, "KRW")
DECLINED = Declined("card_declined")
REFUNDED = Refunded(60, "KRW")
DOUBTS = [Absent(), Silent("504"), Silent("processing", is_failure=False), NotTaken("429", 2.0),
          NotTaken("no connection")]  # fmt: skip
FACTS = [CAPTURED, DECLINED, REFUNDED, Contradiction("422")]

paces = st.builds(
    lambda first, more: Pace(timedelta(seconds=first), timedelta(seconds=first + more)),
    st.floats(0.001, 60),
    st.floats(0, 3_600),
)


@given(paces, st.text(max_size=80), st.integers(0, 100_000))
def test_pauses_grow_up_to_the_interval_and_are_never_nothing(
    pace: Pace, key: str, attempt: int
) -> None:
    pause = pace.pause(call_in(CallState.UNKNOWN, key=key, attempt=attempt))
    longest = min(pace.first_pause * 2 ** min(max(attempt - 1, 0), 16), pace.interval)
    assert timedelta(0) < longest / 2 - timedelta(microseconds=1) <= pause <= longest
    assert pause <= pace.interval
    assert pause == pace.pause(call_in(CallState.ABSENT, key=key, attempt=attempt))


def test_pauses_of_many_calls_are_spread() -> None:
    pauses = {PACE.pause(call_in(CallState.UNKNOWN, key=f"payment:o{n}")) for n in range(1_000)}
    assert len(pauses) > 900


@given(st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_key_is_known_for_as_long_as_is_agreed_from_the_first_request(age: timedelta) -> None:
    call = call_in(CallState.UNKNOWN, first_sent_at=NOW - age)
    assert PACE.forgets(call, NOW) == (age >= PACE.key_retention)
    assert not PACE.forgets(replace(call, first_sent_at=None), NOW)


@pytest.mark.parametrize("state", list(CallState))
@pytest.mark.parametrize("is_wanted", [True, False])
def test_f24_f25_only_what_is_wanted_and_was_not_sent_or_is_absent_is_sent(
    state: CallState, is_wanted: bool
) -> None:
    call = call_in(state)
    asks = must_ask(call, is_wanted=is_wanted, until=NOW + LEASE, pace=PACE)
    assert asks == (not is_wanted or state is CallState.UNKNOWN)


def test_f25_nothing_is_sent_again_once_its_key_may_be_forgotten() -> None:
    """However it stood before: a charge that was absent then may have been made since."""
    retention = PACE.key_retention
    for age, asks in ((retention - LEASE, True), (retention - LEASE - SECOND, False)):
        call = call_in(CallState.ABSENT, first_sent_at=NOW - age)
        assert must_ask(call, is_wanted=True, until=NOW + LEASE, pace=PACE) == asks


@pytest.mark.parametrize("answer", DOUBTS)
@pytest.mark.parametrize("state", list(CallState))
def test_doubts_count_only_under_the_lease_in_which_they_arose(
    state: CallState, answer: Answer
) -> None:
    call = call_in(state)
    for attempt in (1, 3, None):
        finding = found(call, answer, sent=True, attempt=attempt)
        assert learn(call, finding, NOW, PACE) == call
    given_up = replace(call, owner=None)
    assert learn(given_up, found(given_up, answer, sent=True), NOW, PACE) == given_up


@pytest.mark.parametrize("answer", DOUBTS)
@pytest.mark.parametrize("state", OPEN)
def test_doubts_end_the_lease_and_are_looked_into_after_a_pause(
    state: CallState, answer: Answer
) -> None:
    call = learn(call_in(state), found(call_in(state), answer), NOW, PACE)
    assert call.owner is None
    assert call.next_at is not None
    assert NOW < call.next_at <= NOW + max(PACE.interval, 2 * SECOND)


@pytest.mark.parametrize("state", OPEN)
def test_f24_a_request_without_an_answer_is_unknown_until_its_expiry(state: CallState) -> None:
    call = call_in(state, sends=3)
    later = learn(call, found(call, Silent("no answer in 3 s"), sent=True), NOW, PACE)
    assert later.state is CallState.UNKNOWN
    assert (later.sends, later.expires_at) == (4, NOW + 9 * SECOND)
    assert later.first_sent_at == NOW - SECOND, "the lease's beginning: it was sent no earlier"
    again = replace(later, owner="payment-1", attempt=3)
    finding = Finding(call.key, Silent("lost"), 3, NOW + 99 * SECOND, NOW + 89 * SECOND)
    once_more = learn(again, finding, NOW + 90 * SECOND, PACE)
    assert once_more.first_sent_at == later.first_sent_at
    assert once_more.expires_at == NOW + 99 * SECOND


@pytest.mark.parametrize("state", OPEN)
def test_an_inquiry_without_an_answer_changes_nothing_that_is_known(state: CallState) -> None:
    later = learn(call_in(state), found(call_in(state), Silent("504")), NOW, PACE)
    assert (later.state, later.sends, later.expires_at) == (state, 0, None)


@pytest.mark.parametrize("state", OPEN)
def test_f28_a_request_that_was_not_taken_was_not_sent(state: CallState) -> None:
    later = learn(
        call_in(state), found(call_in(state), NotTaken("429", 30.0), sent=True), NOW, PACE
    )
    assert (later.state, later.sends, later.first_sent_at) == (state, 0, None)
    assert later.next_at == NOW + timedelta(seconds=30)
    soon = learn(call_in(state), found(call_in(state), NotTaken("429", 0.0), sent=True), NOW, PACE)
    assert soon.next_at == NOW + PACE.first_pause


def test_a_charge_in_process_is_there() -> None:
    asked = found(call_in(CallState.ABSENT), Silent("processing", is_failure=False))
    assert learn(call_in(CallState.ABSENT), asked, NOW, PACE).state is CallState.UNKNOWN


@pytest.mark.parametrize("state", list(CallState))
@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("kind", list(CallKind))
def test_what_is_certain_counts_whenever_it_is_heard_and_ends_every_lease(
    kind: CallKind, fact: Answer, state: CallState
) -> None:
    call = call_in(state, kind)
    once = told(call, fact)
    if once != call:
        assert (once.owner, once.next_at) == (None, None)
        assert once.state in {CallState.SUCCEEDED, CallState.DECLINED, CallState.QUARANTINED}
        assert (once.state is CallState.QUARANTINED) == (once.quarantine is not None)
    if state is CallState.SUCCEEDED:
        assert once == call, "nothing takes it back"


@pytest.mark.parametrize("state", [*OPEN, CallState.VOID, CallState.QUARANTINED])
def test_f26_a_capture_counts_in_every_state(state: CallState) -> None:
    call = told(call_in(state), CAPTURED)
    assert (call.state, call.reference) == (CallState.SUCCEEDED, "ch_1")


@pytest.mark.parametrize("state", [*OPEN, CallState.QUARANTINED])
def test_f28_a_decline_is_final(state: CallState) -> None:
    declined = told(call_in(state), DECLINED)
    assert declined.state is CallState.DECLINED
    assert told(declined, DECLINED) == declined
    assert told(declined, Contradiction("422")) == declined
    captured = told(declined, CAPTURED)
    assert captured.state is CallState.QUARANTINED
    assert (captured.quarantine, captured.reference) == ("captured after it was declined", "ch_1")


@pytest.mark.parametrize("state", [CallState.VOID, CallState.SUCCEEDED])
def test_a_decline_of_what_was_never_sent_or_was_captured_is_passed_over(state: CallState) -> None:
    assert told(call_in(state), DECLINED) == call_in(state)


@pytest.mark.parametrize("state", [*OPEN, CallState.VOID, CallState.DECLINED])
@pytest.mark.parametrize("answer", [Captured("ch_1", 61, "KRW"), Captured("ch_1", 60, "USD")])
def test_f32_another_amount_or_currency_is_quarantined(answer: Captured, state: CallState) -> None:
    call = told(call_in(state), answer)
    assert (call.state, call.reference) == (CallState.QUARANTINED, "ch_1")
    assert f"{answer.amount} {answer.currency} was captured" in (call.quarantine or "")
    assert told(call, answer) == call, "and once"


@pytest.mark.parametrize("answer", [Refunded(59, "KRW"), Refunded(60, "USD")])
def test_f32_another_amount_given_back_is_quarantined(answer: Refunded) -> None:
    for state in [*OPEN, CallState.WAITING, CallState.VOID]:
        assert told(call_in(state, CallKind.REFUND), answer).state is CallState.QUARANTINED


@pytest.mark.parametrize("state", [CallState.WAITING, CallState.VOID])
def test_f30_money_given_back_that_nobody_asked_for_is_quarantined(state: CallState) -> None:
    assert told(call_in(state, CallKind.REFUND), REFUNDED).state is CallState.QUARANTINED


@pytest.mark.parametrize("state", OPEN)
def test_f30_a_refund_that_succeeded_is_closed(state: CallState) -> None:
    assert told(call_in(state, CallKind.REFUND), REFUNDED).state is CallState.SUCCEEDED


def test_news_of_something_else_under_the_key_are_passed_over() -> None:
    for state in CallState:
        charge, refund = call_in(state), call_in(state, CallKind.REFUND)
        assert told(charge, REFUNDED) == charge
        assert told(refund, CAPTURED) == refund
        assert told(refund, DECLINED) == refund


def test_a_long_reason_is_cut_to_what_the_table_takes() -> None:
    call = told(call_in(CallState.UNKNOWN), Contradiction("x" * 1_000))
    assert call.quarantine == "x" * 200
