"""The settlement window: an order holds while payment finds out what came of a charge at the
gateway, and no longer."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_orchestrator.domain import Limits, SagaState
from order_orchestrator.events import (
    Ignored,
    IgnoreReason,
    Retry,
    Start,
    StepDeadLettered,
    TimerFired,
)
from order_orchestrator.saga import owed
from order_orchestrator.timing import resend_at, spread, waits_for_reply, wake_at
from shared.contracts.effects import Effect
from shared.contracts.order_parts import OutcomeReason, PaymentChoice, PaymentMethod

LIMITS = Limits()
MOMENT = timedelta(microseconds=1)
GATEWAY, WALLET = PaymentMethod.GATEWAY, PaymentMethod.WALLET
HELD = {WALLET: LIMITS.order_deadline, GATEWAY: LIMITS.order_deadline + LIMITS.settlement_window}
"""How long after an order's first step its unanswered charge is given up."""
each_method = pytest.mark.parametrize("method", [WALLET, GATEWAY])


def unanswered(lead, method, *, until, read=timedelta(0), sent=timedelta(seconds=-30)):
    """A charge that was sent often, last at `sent`, and its timer, which fires at `until` with the
    replies read up to `read`: all of them after the moment to which the charge is held."""
    order = lead(method=method).run_to("charge")
    held = order.now + HELD[method]
    order.saga = order.saga._replace(sends=4, last_sent_at=held + sent, timer_at=order.now)
    order.now = held + until
    order.feed(TimerFired(held + read, order.now))
    return order


@each_method
def test_a_charge_is_given_up_when_its_hold_ends_and_not_a_moment_before(lead, method):
    early = unanswered(lead, method, until=-MOMENT)
    assert early.saga.state is SagaState.CHARGING
    assert early.saga.timer_at <= early.now + MOMENT + LIMITS.reading_grace, "it looks again then"
    late = unanswered(lead, method, until=timedelta(0))
    assert late.saga.state is SagaState.COMPENSATING
    assert late.saga.ending.reason is OutcomeReason.PAYMENT_TIMEOUT
    assert late.out == ["charge:undo", "hold:undo", "reserve:undo"]


@each_method
def test_f18_a_charge_is_given_up_once_the_answers_were_read_up_to_the_end_of_its_hold(
    lead, method
):
    hour = timedelta(hours=1)
    unread = unanswered(lead, method, until=hour, read=-MOMENT)
    assert unread.saga.state is SagaState.CHARGING
    unread.feed(unread.done("charge"))
    assert unread.saga.state is SagaState.COMPLETING
    read = unanswered(lead, method, until=hour)
    assert read.saga.state is SagaState.COMPENSATING


@given(
    method=st.sampled_from([WALLET, GATEWAY]),
    until=st.integers(-2, 2),
    read=st.integers(-2, 2),
    sent=st.integers(-2, 2),
    rested=st.booleans(),
)
def test_at_its_borders_a_charge_is_given_up_by_one_rule(lead, method, until, read, sent, rested):
    """Not held any more, the last send had its time, and the answers up to both were read. That
    time ends around the end of the hold (`rested`), or begins there."""
    pause, none = spread("o-1", 4, LIMITS.resend_after), timedelta(0)
    sent_at = sent * MOMENT - (pause if rested else none)
    fires_at = until * MOMENT + (none if rested else pause)
    order = unanswered(lead, method, until=fires_at, read=read * MOMENT, sent=sent_at)
    due = fires_at >= none and fires_at >= sent_at + pause
    known = read >= 0 and read * MOMENT >= sent_at
    given_up = order.saga.state is SagaState.COMPENSATING
    assert given_up == (due and known)


def test_other_steps_of_a_gateway_order_have_no_window(lead):
    for step in ("reserve", "hold"):
        order = lead(method=GATEWAY).leave_in_doubt(step)
        assert order.now - order.history[0].at <= LIMITS.order_deadline + 2 * LIMITS.resend_after
        assert order.saga.ending.reason is OutcomeReason.SAGA_TIMEOUT


def test_while_it_is_held_the_charge_is_sent_again_under_the_same_id(lead):
    order = lead(method=GATEWAY).leave_in_doubt("charge")
    taken = order.now - order.history[0].at
    assert HELD[GATEWAY] <= taken <= HELD[GATEWAY] + 2 * LIMITS.resend_after
    charges = [name for name in order.ids(order.commands) if name == "charge:do"]
    assert len(charges) >= 5
    assert len(order.history) < 20, "each look is a line of history"


@pytest.mark.parametrize("late_s", [61, 120, 179.999])
def test_an_answer_in_the_window_confirms_the_order(lead, late_s):
    order = lead(method=GATEWAY).run_to("charge")
    start = order.now
    while order.saga.timer_at < start + timedelta(seconds=late_s):
        order.fire()
    order.now = start + timedelta(seconds=late_s)
    order.feed(order.done("charge"))
    assert order.told[-1] == "OrderConfirmed"
    order.complete()
    assert order.saga.state is SagaState.CONFIRMED


def test_paid_later_by_the_gateway_the_hold_runs_from_the_payment(lead):
    order = lead(later=True).run_to("hold")
    order.feed(order.done("hold"))
    order.wait(800).feed(order.pay(payment=PaymentChoice(method=GATEWAY)))
    paid_at = order.now
    order.leave_in_doubt("charge")
    assert order.now - paid_at >= HELD[GATEWAY]


def test_a_retry_gives_a_charge_at_the_gateway_its_whole_hold_again(lead):
    order = lead(method=GATEWAY).run_to("charge")
    order.feed(StepDeadLettered("o-1:charge:do", "bug"))
    order.wait(3_600).feed(Retry("ops"))
    again_at = order.now
    order.leave_in_doubt("charge")
    assert order.now - again_at >= HELD[GATEWAY]


def test_a_pending_order_is_held_from_its_first_step(lead):
    order = lead(method=GATEWAY, start=False)
    order.wait(7_200).feed(Start())
    started_at = order.now
    order.leave_in_doubt("charge")
    assert order.now - started_at >= HELD[GATEWAY]


@pytest.mark.parametrize("effect", list(Effect))
def test_f16_cancelled_while_unknown_its_end_waits_for_what_came_of_the_charge(lead, effect):
    order = lead(method=GATEWAY).run_to("charge").fire_until_sent(3)
    order.feed(order.cancel())
    assert order.saga.state is SagaState.CHARGING
    due = resend_at(order.saga, LIMITS)
    order.fire()
    assert order.now == due, "its next timer, long before its hold ends"
    assert order.out == ["charge:undo", "hold:undo", "reserve:undo"]
    order.feed(order.undone("reserve"))
    order.feed(order.undone("hold"))
    order.fire_until_sent(3)
    assert order.out == ["charge:undo"]
    assert order.saga.state is SagaState.COMPENSATING
    assert owed(order.saga).money == 2_700, "nobody knows yet"
    # what payment found out comes in either order
    assert order.feed(order.done("charge")) == Ignored(IgnoreReason.UNDO_COVERS_IT)
    order.feed(order.undone("charge", effect))
    assert order.told == ["OrderAccepted", "OrderCancelled"]
    assert order.saga.state is SagaState.CANCELLED


def test_f16_an_answer_before_the_timer_of_a_cancelled_order_is_refunded(lead):
    order = lead(method=GATEWAY).run_to("charge").fire_until_sent(3)
    order.feed(order.cancel())
    assert order.sent(order.done("charge")) == ["charge:undo", "hold:undo", "reserve:undo"]
    order.undo_all()
    assert order.told == ["OrderAccepted", "OrderCancelled"]


def test_f26_a_charge_that_turns_up_after_the_end_is_undone_once(lead):
    """Payment said that there was nothing to refund. Where its refund said that it was undone,
    a late charge is the one that it undid."""
    for effect, undos in ((Effect.NOTHING, 1), (Effect.UNDONE, 0)):
        order = lead(method=GATEWAY).leave_in_doubt("charge").undo_all(effect)
        assert order.saga.state is SagaState.REJECTED
        before = len(order.commands)
        for _ in range(3):
            order.feed(order.done("charge"))
        assert order.ids(order.commands[before:]) == ["charge:undo"] * undos
        order.undo_all()
        order.feed(order.done("charge"))
        assert order.ids(order.commands[before:]) == ["charge:undo"] * undos
        assert order.told == ["OrderAccepted", "OrderRejected"]


def test_f20_a_refund_is_awaited_for_minutes_before_anybody_is_asked(lead):
    """As the README says: 7 to 11 minutes."""
    order = lead(method=GATEWAY).leave_in_doubt("charge")
    given_up_at = order.now
    order.feed(order.undone("hold"))
    order.feed(order.undone("reserve"))
    while order.saga.stuck is None:
        order.fire()
    taken_s = (order.now - given_up_at).total_seconds()
    assert 7 * 60 < taken_s < 11 * 60
    assert owed(order.saga).money == 2_700
    order.wait(86_400).undo_all()
    assert order.saga.state is SagaState.REJECTED


class TestPlaces:
    """A gateway that hangs holds up those who pay by it, and nobody else."""

    def test_an_order_that_hangs_at_the_gateway_takes_no_place(self, lead):
        order = lead(method=GATEWAY).run_to("charge")
        assert waits_for_reply(order.saga)
        order.fire_until_sent(2)
        assert order.saga.state is SagaState.CHARGING
        assert not waits_for_reply(order.saga)
        order.feed(order.done("charge"))
        assert waits_for_reply(order.saga)  # for its units

    def test_a_wallet_that_is_slow_takes_its_place(self, lead):
        assert waits_for_reply(lead().run_to("charge").fire_until_sent(3).saga)

    def test_another_step_of_such_an_order_takes_its_place(self, lead):
        assert waits_for_reply(lead(method=GATEWAY).run_to("hold").fire_until_sent(3).saga)

    def test_a_refund_at_the_gateway_takes_none_once_all_else_is_undone(self, lead):
        order = lead(method=GATEWAY).leave_in_doubt("charge")
        order.fire_until_sent(2)
        assert waits_for_reply(order.saga)
        order.feed(order.undone("hold"))
        assert waits_for_reply(order.saga)
        order.feed(order.undone("reserve"))
        assert not waits_for_reply(order.saga)


class TestDeploys:
    """Nothing that depends on the window is stored but the timer."""

    def test_a_timer_that_knew_of_no_window_only_looks_again(self, lead):
        order = lead(method=GATEWAY).run_to("charge").fire_until_sent(3)
        at_deadline = order.saga.deadline_at + LIMITS.reading_grace
        order.saga = order.saga._replace(timer_at=at_deadline)
        order.fire()
        assert order.now == at_deadline
        assert order.saga.state is SagaState.CHARGING
        assert order.saga.timer_at > order.now
        order.feed(order.done("charge"))
        assert order.saga.state is SagaState.COMPLETING

    @pytest.mark.parametrize("window_s", [0, 10, 600])
    def test_a_window_that_changed_counts_for_orders_that_wait_already(self, lead, window_s):
        order = lead(method=GATEWAY).run_to("charge").fire_until_sent(3)
        order.limits = Limits(settlement_window=timedelta(seconds=window_s))
        order.leave_in_doubt("charge")
        held = LIMITS.order_deadline + order.limits.settlement_window
        assert order.now - order.history[0].at >= held
        assert wake_at(order.saga, order.limits) is not None
