"""Timers: what is sent again, when an unanswered step is given up, and what becomes stuck."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_orchestrator.domain import Limits, SagaState
from order_orchestrator.events import Ignored, IgnoreReason, Start, StepDeadLettered, TimerFired
from order_orchestrator.saga import owed
from order_orchestrator.timing import spread, waits_for_reply, wake_at
from shared.contracts.order_parts import OutcomeReason

LIMITS = Limits()


def test_the_timer_rests_on_the_way_to_the_pivot(lead):
    """An indexed column that stays makes the row's updates cheaper."""
    order = lead()
    timer = order.saga.timer_at
    for step in ("reserve", "hold", "charge"):
        order.wait(0.01).feed(order.done(step))
        assert order.saga.timer_at == timer
    order.feed(order.done("use"))
    assert order.saga.timer_at == timer
    order.feed(order.done("commit"))
    assert order.saga.timer_at is None


def test_a_timer_that_fires_early_is_only_moved(lead):
    order = lead().wait(4)
    order.feed(order.done("reserve"))
    order.fire()
    assert order.history[-1].note == "timer moved"
    assert order.saga.sends == 1
    assert order.saga.timer_at >= order.saga.last_sent_at + LIMITS.resend_after
    order.fire()
    assert order.saga.sends == 2


def test_f16_a_timer_that_fires_early_acts_on_no_cancel(lead):
    order = lead().wait(4)
    order.feed(order.done("reserve"))
    order.feed(order.cancel())
    order.fire()
    assert order.saga.state is SagaState.HOLDING
    order.fire()
    assert order.saga.state is SagaState.COMPENSATING


def test_f16_a_cancel_after_the_last_send_is_not_forgotten_at_the_deadline(lead):
    """The timer that gives the order up comes before the one that would send again."""
    order = lead().run_to("charge").wait(3_600)
    order.fire()
    order.feed(order.cancel())
    order.fire()
    assert order.saga.state is SagaState.COMPENSATING
    assert order.saga.ending.state is SagaState.CANCELLED


def test_f22_a_due_timer_sends_the_same_command_again(lead):
    for step in ("reserve", "hold", "charge"):
        order = lead().run_to(step)
        first = order.commands[-1]
        order.fire_until_sent()
        assert order.commands[-1] == first
        assert order.saga.sends == 2


def test_f22_what_follows_the_pivot_is_sent_again_until_done(lead):
    order = lead().run_to("commit").fire_until_sent()
    assert order.ids(order.commands[-2:]) == ["use:do", "commit:do"]
    order.feed(order.done("use"))
    order.fire_until_sent()
    assert order.ids(order.commands[-1:]) == ["commit:do"]
    order.complete()
    assert order.saga.state is SagaState.CONFIRMED


def test_resends_back_off_and_stop_growing(lead):
    order = lead(limits=Limits(order_deadline=timedelta(days=1)))
    pauses = []
    for _ in range(8):
        last = order.saga.last_sent_at
        order.fire_until_sent()
        pauses.append((order.saga.last_sent_at - last).total_seconds())
    for pause, least in zip(pauses, [5, 10, 20, 40, 60, 60, 60, 60], strict=True):
        assert least <= pause <= least * 1.5


def test_f18_timers_that_came_due_together_are_spread(lead):
    moments = set()
    for number in range(200):
        order = lead(order_id=f"o-{number}").wait(3_600)
        order.fire()
        moments.add(order.saga.timer_at)
        assert order.saga.sends == 2
    assert len(moments) > 190
    assert max(moments) - min(moments) > timedelta(seconds=1.5)


@given(st.text("abc123", min_size=1), st.integers(1, 50))
def test_jitter_is_bounded_and_repeats(order_id, count):
    delay = spread(order_id, count, LIMITS.resend_after)
    assert delay == spread(order_id, count, LIMITS.resend_after)
    assert LIMITS.resend_after <= delay <= LIMITS.resend_after * 1.5


def test_f18_after_an_outage_the_command_is_sent_again_first(lead):
    order = lead().run_to("charge").wait(3_600)
    order.fire()
    assert order.saga.state is SagaState.CHARGING
    assert order.saga.sends == 2
    order.fire()
    assert order.saga.state is SagaState.COMPENSATING


def test_f18_nothing_is_given_up_before_the_deadline(lead):
    order = lead()
    while order.saga.state is SagaState.RESERVING:
        order.fire()
    assert order.now - order.history[0].at >= LIMITS.order_deadline
    assert order.now - order.history[0].at <= LIMITS.order_deadline + 2 * LIMITS.resend_after
    assert order.saga.sends == 1
    assert order.ids(order.commands).count("reserve:do") >= 2


@pytest.mark.parametrize("read", ["the deadline", "the last send"])
def test_f18_nothing_is_given_up_before_the_replies_were_read(lead, read):
    order = lead().run_to("charge").wait(3_600)
    order.fire()
    last_sent_at, deadline_at = order.saga.last_sent_at, order.saga.deadline_at
    up_to = deadline_at if read == "the deadline" else last_sent_at - timedelta(milliseconds=1)
    for _ in range(5):
        before = order.now
        if order.saga.last_sent_at > last_sent_at:
            up_to = order.saga.last_sent_at - timedelta(milliseconds=1)
        order.fire(read_up_to=up_to)
        assert order.saga.state is SagaState.CHARGING
        assert order.saga.timer_at > order.now  # no timer fires in a loop
        assert order.now >= before
    order.feed(order.done("charge"))
    assert order.saga.state is SagaState.COMPLETING


def test_f18_read_up_to_the_last_send_before_the_deadline_is_not_enough(lead):
    order = lead()
    while order.saga.sends < 4:
        order.fire()
    order.fire(read_up_to=order.saga.deadline_at - timedelta(milliseconds=1))
    assert order.saga.state is SagaState.RESERVING
    order.fire()
    assert order.saga.state is SagaState.COMPENSATING


def test_the_deadline_runs_from_the_first_step(lead):
    order = lead(start=False)
    assert (order.saga.timer_at, order.saga.deadline_at) == (None, None)
    order.wait(7_200).feed(Start())
    assert order.saga.deadline_at == order.now + LIMITS.order_deadline
    assert order.feed(Start()) == Ignored(IgnoreReason.ALREADY_STARTED)


def test_a_late_payment_gets_the_time_of_a_step(lead):
    order = lead(later=True).run_to("hold")
    order.feed(order.done("hold"))
    order.wait(800).feed(order.pay())
    assert order.saga.deadline_at == order.now + LIMITS.order_deadline
    assert order.saga.timer_at <= order.now + 1.5 * LIMITS.resend_after


def test_never_paid_is_undone(lead):
    order = lead(later=True).run_to("hold")
    order.feed(order.done("hold"))
    assert order.events[-1].pay_by == order.saga.pay_by == order.now + LIMITS.pay_deadline
    while order.saga.state is SagaState.AWAITING_PAYMENT:
        order.fire()
        assert len(order.history) < 10
    assert order.now >= order.saga.pay_by
    assert order.out == ["hold:undo", "reserve:undo"]
    order.undo_all()
    assert order.events[-1].reason is OutcomeReason.PAYMENT_TIMEOUT


def test_a_payment_awaited_after_a_dead_letter_still_has_its_end(lead):
    order = lead(later=True).run_to("hold")
    order.feed(StepDeadLettered("o-1:hold:do", "bug"))
    assert order.saga.timer_at is None
    order.feed(order.done("hold"))
    assert order.saga.timer_at == order.saga.pay_by + LIMITS.reading_grace


def test_a_reading_ahead_of_the_clock_ends_no_order_early(lead):
    order = lead(later=True).run_to("hold")
    order.feed(order.done("hold"))
    order.fire(read_up_to=order.saga.pay_by + timedelta(days=1))
    assert order.saga.state is SagaState.AWAITING_PAYMENT


def test_f18_an_unread_payment_is_waited_for(lead):
    order = lead(later=True).run_to("hold")
    order.feed(order.done("hold"))
    order.wait(3_600)
    for _ in range(3):
        order.fire(read_up_to=order.saga.pay_by - timedelta(milliseconds=1))
        assert order.saga.state is SagaState.AWAITING_PAYMENT
        assert order.saga.timer_at > order.now
    order.feed(order.pay())
    assert order.saga.state is SagaState.CHARGING


def test_f20_undos_are_sent_again_and_then_stuck_with_what_is_owed(lead):
    order = lead().leave_in_doubt("charge")
    for sends in range(2, LIMITS.undo_sends + 1):
        before = len(order.commands)
        order.fire()
        assert order.saga.sends == sends
        assert order.ids(order.commands[before:]) == ["charge:undo", "hold:undo", "reserve:undo"]
    assert waits_for_reply(order.saga)
    order.fire()
    assert order.saga.stuck is not None
    assert order.saga.stuck.since == order.now
    assert order.saga.timer_at is None
    assert not waits_for_reply(order.saga)
    assert owed(order.saga).money == 2_700
    assert owed(order.saga).coupon_id == "WELCOME10"
    assert sum(line.quantity for line in owed(order.saga).units) == 3


def test_f20_a_stuck_saga_still_takes_late_replies(lead):
    order = lead().leave_in_doubt("charge").fire_until_sent(LIMITS.undo_sends - 1)
    order.fire()
    order.feed(order.undone("charge"))
    assert order.saga.stuck is not None
    assert owed(order.saga).steps == ("reserve", "hold")
    order.undo_all()
    assert order.saga.stuck is None
    assert order.saga.state is SagaState.REJECTED


def test_f20_after_the_pivot_stuck_shows_confirmed(lead):
    order = lead().run_to("commit").fire_until_sent(LIMITS.undo_sends - 1)
    order.fire()
    assert order.saga.stuck is not None
    assert order.saga.state is SagaState.COMPLETING
    assert owed(order.saga).steps == ("use", "commit")


def test_a_timer_that_is_not_due_is_ignored(lead):
    pending, order = lead(start=False), lead()
    for saga in (pending, order):
        fired = TimerFired(saga.now, saga.now)
        assert saga.feed(fired) == Ignored(IgnoreReason.NOT_DUE)


def test_a_timer_of_a_saga_that_waits_for_nothing_is_taken_off(lead):
    order = lead().run_to("commit").complete()
    order.saga = order.saga._replace(timer_at=order.now)
    order.fire()
    assert order.saga.timer_at is None
    assert wake_at(order.saga, LIMITS) is None
