"""The table of steps, the lists of states and the tables of reasons, held against each other."""

import pytest

from order_orchestrator.domain import (
    AFTER_RESERVATION,
    ENDED,
    FORWARD,
    LEGAL,
    SENDING,
    Limits,
    Owed,
    SagaState,
    public_status,
)
from order_orchestrator.outcomes import COUPON_REASONS, PAYMENT_REASONS, STOCK_REASONS
from order_orchestrator.saga import COMMANDS, COMMIT, PIVOT, STEPS, USE, Reply, in_doubt, owed
from shared.contracts.base import message_id
from shared.contracts.coupon import CouponRefusal
from shared.contracts.order_parts import OrderStatus, OutcomeReason
from shared.contracts.payment import PaymentRefusal
from shared.contracts.stock import StockRefusal
from shared.contracts.topics import SAGA, TOPICS


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_step_speaks_with_its_participant_alone(lead, step):
    saga = lead().run_to("commit").saga
    commands = [step.do(saga)] + ([step.undo(saga)] if step.undo else [])
    for command, direction in zip(commands, ("do", "undo"), strict=False):
        assert type(command) in TOPICS[step.topic].messages
        assert message_id(command) == f"o-1:{step.name}:{direction}"
        assert COMMANDS[f"{step.name}:{direction}"] == (STEPS.index(step), direction == "undo")
    replies = TOPICS[step.topic.replace("commands", "replies")].messages
    assert {step.done, step.refused, step.undone} - {None} <= set(replies)


def test_every_reply_and_every_command_of_the_registry_is_in_the_table():
    in_table = {kind for step in STEPS for kind in (step.done, step.refused, step.undone) if kind}
    registered = {
        message
        for topic in TOPICS.values()
        if topic.kind == "replies" and SAGA in topic.readers
        for message in topic.messages
    }
    assert in_table == registered == set(Reply.__args__)


def test_only_steps_before_the_pivot_have_an_undo():
    assert [step.undo is not None for step in STEPS] == [place < PIVOT for place in range(5)]
    assert {STEPS[USE].state, STEPS[COMMIT].state} == {SagaState.COMPLETING}


def test_states_are_closed_and_reachable():
    reachable, grown = {None}, True
    while grown:
        more = {new for old, new in LEGAL if old in reachable} - reachable
        reachable |= more
        grown = bool(more)
    assert reachable - {None} == set(SagaState)
    assert {old for old, _ in LEGAL if old in ENDED} == set()
    assert {SagaState.PENDING, SagaState.AWAITING_PAYMENT} == set(SagaState) - SENDING - ENDED
    assert FORWARD < SENDING
    assert AFTER_RESERVATION.isdisjoint(ENDED)


def test_every_state_has_a_public_status(lead):
    seen = {public_status(lead().saga._replace(state=state)) for state in SagaState}
    assert seen == set(OrderStatus)


def test_every_refusal_becomes_one_closed_reason():
    for reasons, table in (
        (StockRefusal, STOCK_REASONS),
        (CouponRefusal, COUPON_REASONS),
        (PaymentRefusal, PAYMENT_REASONS),
    ):
        assert set(table) == set(reasons)
        assert set(table.values()) <= set(OutcomeReason)
        for reason in reasons:
            if reason.value in {known.value for known in OutcomeReason}:
                assert table[reason].value == reason.value


def test_charge_takes_the_total_and_points_at_most_that(lead):
    few = lead(points=50).run_to("charge").commands[-1]
    assert (few.amount, few.points) == (2 * 1_000 + 1_000 - 300, 50)
    many = lead(points=1_000_000).run_to("charge").commands[-1]
    assert many.points == many.amount == 2_700


def test_hold_asks_with_the_sum_before_the_discount(lead):
    assert lead().run_to("hold").commands[-1].total == 3_000


def test_owed_says_what_would_stay_open(lead):
    charging = lead().run_to("charge")
    assert owed(charging.saga).steps == ("reserve", "hold", "charge")
    assert (owed(charging.saga).money, owed(charging.saga).coupon_id) == (2_700, "WELCOME10")
    doubted = in_doubt(charging.saga)
    assert doubted.steps == ("charge",), "the others are known to be held"
    assert (doubted.units, doubted.money, doubted.coupon_id) == ((), 2_700, None)
    charging.feed(charging.done("charge"))
    completing = owed(charging.saga)
    assert in_doubt(charging.saga) == completing, "what is to be completed is out as well"
    assert (completing.steps, completing.money) == (("use", "commit"), 0)
    assert [(line.product_id, line.quantity) for line in completing.units] == [
        ("P001", 2),
        ("P002", 1),
    ]
    charging.feed(charging.done("commit"))
    assert owed(charging.saga).steps == ("use",)
    assert owed(charging.saga).units == ()
    charging.feed(charging.done("use"))
    assert owed(charging.saga) == Owed((), 0, "KRW", None, ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"resend_after": Limits().resend_at_most * 2},
        {"resend_after": Limits().resend_after * 0},
        {"order_deadline": Limits().resend_after},
        {"settlement_window": -Limits().reading_grace},
        {"pay_deadline": Limits().pay_deadline * 0},
        {"reading_grace": -Limits().reading_grace},
        {"undo_sends": 1},
    ],
)
def test_limits_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        Limits(**wrong)
