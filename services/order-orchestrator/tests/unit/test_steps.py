"""Cases made from the table: each step refused, in doubt, answered twice, cancelled, dead."""

import pytest

from order_orchestrator.domain import SagaState
from order_orchestrator.events import (
    Ignored,
    IgnoreReason,
)
from order_orchestrator.saga import STEPS, owed
from shared.contracts.effects import Effect
from shared.contracts.order_parts import OutcomeReason
from shared.contracts.stock import StockRefusal

BEFORE_PIVOT = [step.name for step in STEPS if step.undo]
AFTER_PIVOT = [step.name for step in STEPS if not step.undo]
UNDO = {
    "reserve": ["reserve:undo"],
    "hold": ["hold:undo", "reserve:undo"],
    "charge": ["charge:undo", "hold:undo", "reserve:undo"],
}


def undo_before(step):
    """The undos of the steps before this one, in reverse order."""
    return UNDO[step][1:]


@pytest.fixture(params=[False, True], ids=["pay now", "pay later"])
def order(request, lead):
    return lead(later=request.param)


def test_every_step_done_confirms(order):
    order.run_to("commit")
    assert order.saga.state is SagaState.COMPLETING
    assert order.out == ["use:do", "commit:do"]
    assert order.told[-1] == "OrderConfirmed"
    order.complete()
    assert order.saga.state is SagaState.CONFIRMED
    assert order.saga.timer_at is None
    assert order.told.count("OrderConfirmed") == 1


@pytest.mark.parametrize("last", AFTER_PIVOT)
def test_what_follows_the_pivot_may_be_answered_in_any_order(lead, last):
    order = lead().run_to("commit")
    (first,) = set(AFTER_PIVOT) - {last}
    order.feed(order.done(first))
    assert order.saga.state is SagaState.COMPLETING
    assert order.out == [f"{last}:do"]
    order.feed(order.done(last))
    assert order.saga.state is SagaState.CONFIRMED


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_refused_undoes_from_the_step_before(order, step):
    order.run_to(step)
    assert order.sent(order.refused(step)) == undo_before(step)
    assert f"{step}:undo" not in order.out
    order.undo_all()
    assert order.saga.state is SagaState.REJECTED
    assert order.told[-1] == "OrderRejected"
    assert owed(order.saga).steps == ()


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_in_doubt_undoes_from_the_step_itself(order, step):
    order.leave_in_doubt(step)
    assert order.out == UNDO[step]
    assert order.ids(order.commands[-len(UNDO[step]) :]) == UNDO[step]
    order.undo_all()
    reason = OutcomeReason.PAYMENT_TIMEOUT if step == "charge" else OutcomeReason.SAGA_TIMEOUT
    assert order.events[-1].reason is reason
    assert order.saga.state is SagaState.REJECTED


@pytest.mark.parametrize("step", BEFORE_PIVOT)
@pytest.mark.parametrize("answer", ["done", "refused"])
def test_f13_an_answer_after_giving_up_is_covered_by_the_undo(order, step, answer):
    order.leave_in_doubt(step)
    reply = getattr(order, answer)(step)
    assert order.feed(reply) == Ignored(IgnoreReason.UNDO_COVERS_IT)
    order.undo_all()
    assert order.feed(reply) == Ignored(IgnoreReason.UNDO_COVERS_IT)
    assert order.told.count("OrderRejected") == 1
    assert order.saga.timer_at is None


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_f13_done_after_its_undo_found_nothing_is_undone_once(order, step):
    order.leave_in_doubt(step).undo_all(Effect.NOTHING)
    assert order.saga.state is SagaState.REJECTED
    assert order.sent(order.done(step)) == [f"{step}:undo"]
    assert order.saga.state is SagaState.REJECTED
    assert order.saga.timer_at is not None  # followed until it is answered
    assert f"{step}" in owed(order.saga).steps
    assert order.feed(order.done(step)) == Ignored(IgnoreReason.UNDO_COVERS_IT)
    order.feed(order.undone(step))
    assert order.saga.timer_at is None
    assert order.feed(order.done(step)) == Ignored(IgnoreReason.UNDO_COVERS_IT)
    assert order.told.count("OrderRejected") == 1


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_f22_in_doubt_and_answered_in_time_goes_on(order, step):
    order.run_to(step).fire_until_sent(2)
    order.feed(order.done(step))
    assert order.saga.state is not SagaState.COMPENSATING
    assert order.saga.sends <= 1
    order.run_to("commit").complete()
    assert order.saga.state is SagaState.CONFIRMED


@pytest.mark.parametrize("step", [step.name for step in STEPS])
def test_each_do_answered_twice_counts_once(order, step):
    order.run_to(step)
    reply = order.done(step)
    order.feed(reply)
    assert order.feed(reply) == Ignored(IgnoreReason.DUPLICATE)
    order.run_to("commit") if step in BEFORE_PIVOT else order.complete()
    assert order.feed(reply) == Ignored(IgnoreReason.DUPLICATE)
    assert order.ids(order.commands).count(f"{step}:do") == 1


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_each_undo_answered_twice_counts_once(order, step, effect):
    order.leave_in_doubt(step).feed(order.undone(step, effect))
    assert order.feed(order.undone(step, effect)) == Ignored(IgnoreReason.DUPLICATE)
    order.undo_all()
    assert order.feed(order.undone(step, effect)) == Ignored(IgnoreReason.DUPLICATE)
    assert len(order.told) == len(set(order.told))


def test_undos_wait_for_each_other_in_no_order_and_the_outcome_for_all(order):
    order.leave_in_doubt("charge")
    for step in ("reserve", "charge"):
        order.feed(order.undone(step))
        assert order.saga.state is SagaState.COMPENSATING
    order.feed(order.undone("hold"))
    assert order.saga.state is SagaState.REJECTED


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_f14_reply_to_an_undo_that_was_never_sent(order, step):
    order.run_to(step)
    assert order.feed(order.undone(step)) == Ignored(IgnoreReason.NEVER_SENT)


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_f16_cancel_while_a_reply_is_owed_waits_for_it(order, step):
    order.run_to(step)
    assert order.sent(order.cancel(reason="changed my mind")) == []
    assert order.feed(order.cancel()) == Ignored(IgnoreReason.ALREADY_CANCELLED)
    assert order.sent(order.done(step)) == UNDO[step]
    order.undo_all()
    assert order.told[-1] == "OrderCancelled"
    assert order.events[-1].reason is OutcomeReason.CANCELLED_BY_USER
    assert order.events[-1].note == "changed my mind"
    assert "OrderConfirmed" not in order.told


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_f16_cancel_and_then_refused(order, step):
    order.run_to(step).feed(order.cancel())
    assert order.sent(order.refused(step)) == undo_before(step)
    order.undo_all()
    assert order.saga.state is SagaState.CANCELLED


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_f16_cancel_without_a_reply_is_acted_on_at_the_timer(order, step):
    order.run_to(step).feed(order.cancel())
    while order.saga.state is not SagaState.COMPENSATING:
        assert order.saga.sends == 1
        order.fire()
    assert order.out == UNDO[step]


def test_without_coupon_both_coupon_steps_are_skipped(lead):
    order = lead(coupon=False).run_to("commit")
    assert order.ids(order.commands) == ["reserve:do", "charge:do", "commit:do"]
    order.complete()
    assert (order.status("hold"), order.status("use")) == ("skipped", "skipped")
    assert order.saga.state is SagaState.CONFIRMED


def test_a_total_of_0_skips_the_charge(lead):
    order = lead(discount=3_000)
    order.run_to("commit")
    assert "charge:do" not in order.ids(order.commands)
    assert order.events[-1].total == 0
    assert order.events[-1].discount == 3_000
    order.complete()
    assert order.saga.state is SagaState.CONFIRMED


def test_a_total_of_0_paid_later_still_waits_for_the_word(lead):
    order = lead(discount=3_000, later=True).run_to("hold")
    order.feed(order.done("hold"))
    assert order.saga.state is SagaState.AWAITING_PAYMENT
    assert order.sent(order.pay()) == ["use:do", "commit:do"]


@pytest.mark.parametrize("change", [-1, 1])
def test_price_changed_is_found_before_the_charge(lead, change):
    for coupon, expected in ((True, 2_700), (False, 3_000)):
        fits = lead(coupon=coupon, expected_total=expected).run_to("charge")
        assert fits.saga.state is SagaState.CHARGING
        order = lead(coupon=coupon, expected_total=expected + change)
        while order.saga.state is not SagaState.COMPENSATING:
            order.feed(order.done(order.out[0].partition(":")[0]))
        assert order.out == (UNDO["hold"] if coupon else UNDO["reserve"])
        assert "charge:do" not in order.ids(order.commands)
        order.undo_all()
        assert order.events[-1].reason is OutcomeReason.PRICE_CHANGED


@pytest.mark.parametrize("step", ["reserve", "hold"])
def test_f7_another_currency_undoes_what_was_done(lead, step):
    order = lead().run_to(step)
    reply = order.done(step).model_copy(update={"currency": "USD"})
    assert order.sent(reply) == UNDO[step]
    order.undo_all()
    assert order.events[-1].reason is OutcomeReason.CURRENCY_MISMATCH


def test_details_of_a_refusal_are_told(lead):
    order = lead().run_to("hold")
    order.feed(order.refused("hold"))
    order.undo_all()
    assert order.events[-1].details[0].coupon_reason.value == "expired"
    closed = lead()
    closed.feed(closed.refused("reserve", StockRefusal.TEMPORARILY_UNAVAILABLE))
    assert closed.events[-1].reason is OutcomeReason.TEMPORARILY_UNAVAILABLE
    assert closed.saga.state is SagaState.REJECTED
