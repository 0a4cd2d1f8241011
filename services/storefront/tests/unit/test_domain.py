"""What is heard of an order, and what it answers: every status, event and refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.ids import is_id
from shared.contracts.order_document import OrderDocument
from shared.contracts.order_parts import OrderStatus, OutcomeReason
from shared.contracts.orders import (
    OrderAccepted,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
)
from shared.contracts.refusals import CommandRefusal, CommandRefused
from storefront.domain import OUTCOMES, Answer, Question, answer_of, heard, key_id, refused

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
GRANTED = {
    (Question.PLACE, OrderStatus.AWAITING_PAYMENT),
    (Question.PLACE, OrderStatus.CONFIRMED),
    (Question.PAY, OrderStatus.CONFIRMED),
    (Question.CANCEL, OrderStatus.CANCELLED),
}
STATUS_OF = {
    CommandRefusal.UNKNOWN_ORDER: 404,
    CommandRefusal.TEMPORARILY_UNAVAILABLE: 503,
    CommandRefusal.COMMAND_ID_REUSED: 422,
    CommandRefusal.ORDER_ID_REUSED: 422,
    CommandRefusal.INVALID_COMMAND: 400,
}
"""All others are 409."""


def order(status: OrderStatus, reason: OutcomeReason | None = None) -> OrderDocument:
    return OrderDocument(order_id="o-1", user_id="ann", status=status, version=2, reason=reason)


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("status", OrderStatus)
def test_every_status_answers_every_question_or_leaves_it_open(
    question: Question, status: OrderStatus
) -> None:
    ended = status in (OrderStatus.REJECTED, OrderStatus.CANCELLED)
    reason = OutcomeReason.OUT_OF_STOCK if ended else None
    answer = answer_of(question, order(status, reason))
    if (question, status) in GRANTED:
        assert answer == Answer(HTTPStatus.OK, order(status, reason))
        assert not answer.is_problem
    elif status in OUTCOMES:
        assert answer is not None
        assert (answer.status, answer.is_problem) == (409, True)
        assert answer.reason == (reason or CommandRefusal.TOO_LATE)
        assert answer.order is not None
        assert answer.detail
    else:
        assert answer is None


def test_outcomes_are_what_no_order_leaves() -> None:
    assert {"CONFIRMED", "REJECTED", "CANCELLED"} == OUTCOMES


@pytest.mark.parametrize("reason", CommandRefusal)
def test_every_refusal_of_a_command_has_an_answer(reason: CommandRefusal) -> None:
    event = CommandRefused(
        command_id="o-1:pay", command="PayOrder", key="o-1", reason=reason, detail="why"
    )
    answer = refused(event)
    assert answer == Answer(HTTPStatus(STATUS_OF.get(reason, 409)), None, reason, "why")
    assert answer.is_problem
    # somebody else's command is none of our business
    assert heard(Question.PAY, event, "o-1:pay") == answer
    assert heard(Question.PAY, event, "h-another") is None


PRICED = {"items": (), "total": 5, "discount": 0, "currency": "KRW"}
COMMON = {"order_id": "o-1", "user_id": "ann", "version": 2, "at": NOW}
EVENTS = {
    OrderStatus.PENDING: OrderAccepted(**COMMON),
    OrderStatus.AWAITING_PAYMENT: OrderAwaitingPayment(**COMMON, **PRICED, pay_by=NOW),
    OrderStatus.CONFIRMED: OrderConfirmed(**COMMON, **PRICED),
    OrderStatus.REJECTED: OrderRejected(**COMMON, reason=OutcomeReason.OUT_OF_STOCK, note="n"),
    OrderStatus.CANCELLED: OrderCancelled(**COMMON, reason=OutcomeReason.CANCELLED_BY_USER),
}


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("status", EVENTS)
def test_an_event_answers_as_the_order_that_it_tells_of(
    question: Question, status: OrderStatus
) -> None:
    event = EVENTS[status]
    found = heard(question, event, "o-1:pay")
    document = found.order if isinstance(found, Answer) else found
    assert document is not None
    assert (document.order_id, document.user_id, document.status, document.version) == (
        "o-1", "ann", status, 2,
    )  # fmt: skip
    assert isinstance(found, Answer) == (answer_of(question, document) is not None)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_a_key_always_makes_the_same_id(parts: list[str]) -> None:
    found = key_id(*parts)
    assert found == key_id(*parts)
    assert is_id(found)
    assert len(found) == len("h-") + 26


@given(
    st.tuples(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True), st.text("!~a-", min_size=1)),
    st.tuples(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True), st.text("!~a-", min_size=1)),
)
def test_users_with_the_same_key_share_nothing(one: tuple[str, str], two: tuple[str, str]) -> None:
    assert (key_id(*one) == key_id(*two)) == (one == two)
