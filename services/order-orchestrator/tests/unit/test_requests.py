"""What users and operators ask for: pay, cancel, retry, settle."""

from datetime import timedelta

import pytest

from order_orchestrator.domain import Limits, SagaState, StepStatus, public_status
from order_orchestrator.events import (
    Ignored,
    IgnoreReason,
    OperatorCancel,
    OperatorRefusal,
    Refused,
    Retry,
    Settle,
    Start,
    StepDeadLettered,
)
from order_orchestrator.saga import owed
from shared.contracts.order_parts import (
    OrderStatus,
    OutcomeReason,
    PaymentChoice,
    PaymentMethod,
)
from shared.contracts.refusals import CommandRefusal

OUTCOMES = (SagaState.CONFIRMED, SagaState.REJECTED, SagaState.CANCELLED)


def refusal(result):
    assert isinstance(result, Refused), result
    return result.reason


def awaiting(lead, **fields):
    order = lead(later=True, **fields).run_to("hold")
    order.feed(order.done("hold"))
    assert order.saga.state is SagaState.AWAITING_PAYMENT
    return order


def compensating(lead):
    order = lead().run_to("charge")
    order.feed(order.refused("charge"))
    return order


def stuck(order):
    """Stuck by its own timer, in whatever it waits for after the pivot or while undoing."""
    order.fire_until_sent(Limits().undo_sends - order.saga.sends)
    order.fire()
    assert order.saga.stuck is not None
    return order


# --- PayOrder ---


def test_awaiting_payment_says_what_it_costs(lead):
    event = awaiting(lead).events[-1]
    assert (event.total, event.discount, event.currency) == (2_700, 300, "KRW")
    assert event.reference == "ref"
    assert [item.unit_price for item in event.items] == [1_000, 1_000]


def test_the_first_pay_order_counts(lead):
    order = awaiting(lead)
    assert order.sent(order.pay("pay-1")) == ["charge:do"]
    assert order.feed(order.pay("pay-1")) == Ignored(IgnoreReason.DUPLICATE)
    assert refusal(order.feed(order.pay("pay-2"))) is CommandRefusal.ALREADY_PAID
    order.run_to("commit").complete()
    assert refusal(order.feed(order.pay("pay-3"))) is CommandRefusal.ALREADY_PAID


def test_a_decline_ends_the_order(lead):
    order = awaiting(lead)
    order.feed(order.pay())
    assert order.sent(order.refused("charge")) == ["hold:undo", "reserve:undo"]
    assert refusal(order.feed(order.pay("pay-2"))) is CommandRefusal.ALREADY_PAID
    order.undo_all()
    assert order.events[-1].reason is OutcomeReason.PAYMENT_DECLINED


def test_pay_order_may_say_how(lead):
    order = awaiting(lead)
    choice = PaymentChoice(method=PaymentMethod.GATEWAY, points=7)
    order.feed(order.pay(payment=choice))
    charge = order.commands[-1]
    assert (charge.method, charge.points) == (PaymentMethod.GATEWAY, 7)
    assert order.saga.order.payment.method is PaymentMethod.WALLET


@pytest.mark.parametrize("when", ["pending", "reserving", "holding"])
def test_f2_pay_order_that_comes_early_is_kept(lead, when):
    order = lead(later=True, start=False)
    if when == "pending":
        order.feed(order.pay())
        order.feed(Start())
    else:
        order.feed(Start())
    if when == "holding":
        order.feed(order.done("reserve"))
    if when != "pending":
        assert order.sent(order.pay()) == []
    assert refusal(order.feed(order.pay("pay-2"))) is CommandRefusal.ALREADY_PAID
    order.run_to("charge")
    assert order.told == ["OrderAccepted"]


def test_pay_order_of_another_user_looks_unknown(lead):
    order = awaiting(lead)
    assert refusal(order.feed(order.pay(user_id="user_2"))) is CommandRefusal.UNKNOWN_ORDER
    assert refusal(order.feed(order.cancel(user_id="user_2"))) is CommandRefusal.UNKNOWN_ORDER
    paid_now = lead()
    assert refusal(paid_now.feed(paid_now.pay(user_id="x"))) is CommandRefusal.UNKNOWN_ORDER


def test_pay_order_where_none_is_awaited(lead):
    paid_now = lead()
    assert refusal(paid_now.feed(paid_now.pay())) is CommandRefusal.NOT_AWAITING_PAYMENT
    order = awaiting(lead)
    order.feed(order.cancel())
    assert refusal(order.feed(order.pay())) is CommandRefusal.TOO_LATE
    order.undo_all()
    assert refusal(order.feed(order.pay())) is CommandRefusal.TOO_LATE
    cancelled = lead(later=True)
    cancelled.feed(cancelled.cancel())
    assert refusal(cancelled.feed(cancelled.pay())) is CommandRefusal.TOO_LATE


def test_pay_order_after_the_time_but_before_the_timer_is_taken(lead):
    order = awaiting(lead).wait(901)
    assert order.sent(order.pay()) == ["charge:do"]


# --- CancelOrder ---


def test_f16_cancel_of_a_pending_order_acts_at_once(lead):
    order = lead(start=False)
    assert order.sent(order.cancel()) == []
    assert order.saga.state is SagaState.CANCELLED
    assert order.feed(Start()) == Ignored(IgnoreReason.ALREADY_STARTED)
    assert order.told == ["OrderAccepted", "OrderCancelled"]


def test_f16_cancel_of_an_awaited_payment_acts_at_once(lead):
    order = awaiting(lead)
    assert order.sent(order.cancel()) == ["hold:undo", "reserve:undo"]
    assert public_status(order.saga) is OrderStatus.COMPENSATING
    order.undo_all()
    assert order.told[-1] == "OrderCancelled"
    assert "charge:do" not in order.ids(order.commands)


@pytest.mark.parametrize("completed", [False, True])
def test_f16_cancel_after_the_pivot_is_too_late(lead, completed):
    order = lead().run_to("commit")
    if completed:
        order.complete()
    assert refusal(order.feed(order.cancel())) is CommandRefusal.TOO_LATE
    assert refusal(order.feed(OperatorCancel("ops"))) is CommandRefusal.TOO_LATE


def test_f16_cancel_of_a_rejected_order_is_too_late(lead):
    order = compensating(lead)
    assert refusal(order.feed(order.cancel())) is CommandRefusal.TOO_LATE
    order.undo_all()
    assert refusal(order.feed(order.cancel())) is CommandRefusal.TOO_LATE


def test_f16_cancel_twice_is_one_cancel(lead):
    order = awaiting(lead)
    order.feed(order.cancel())
    assert order.feed(order.cancel()) == Ignored(IgnoreReason.ALREADY_CANCELLED)
    order.undo_all()
    assert order.feed(order.cancel()) == Ignored(IgnoreReason.ALREADY_CANCELLED)


def test_cancel_by_an_operator_is_told_as_such(lead):
    order = awaiting(lead)
    order.feed(OperatorCancel("ops-7", "x" * 600))
    assert order.history[-1].note == "by ops-7: " + "x" * 500
    order.undo_all()
    assert order.events[-1].reason is OutcomeReason.CANCELLED_BY_OPERATOR
    assert len(order.events[-1].note) == 500


def test_cancel_of_a_stuck_step_acts_at_once(lead):
    for cancel in (OperatorCancel("ops"), lead().cancel()):
        order = lead().run_to("hold")
        order.feed(StepDeadLettered("o-1:hold:do", "bug"))
        assert order.sent(cancel) == ["hold:undo", "reserve:undo"]
        assert order.saga.stuck is None
    order = lead().run_to("hold")
    order.feed(order.cancel())
    assert order.sent(StepDeadLettered("o-1:hold:do", "bug")) == ["hold:undo", "reserve:undo"]


# --- Retry and Settle ---


def test_retry_and_settle_are_for_stuck_sagas_only(lead):
    for order in (lead(start=False), lead(), awaiting(lead), compensating(lead)):
        assert refusal(order.feed(Retry("ops"))) is OperatorRefusal.NOT_STUCK
        settle = Settle("ops", SagaState.REJECTED, "done by hand")
        assert refusal(order.feed(settle)) is OperatorRefusal.NOT_STUCK


def test_f20_retry_sends_again_and_is_audited(lead):
    order = stuck(compensating(lead))
    assert order.sent(Retry("ops-7", "coupon is back")) == ["hold:undo", "reserve:undo"]
    assert order.history[-1].note == "by ops-7: coupon is back"
    assert order.history[-1].cause == "Retry"
    assert (order.saga.stuck, order.saga.sends) == (None, 1)
    assert order.saga.timer_at > order.now
    stuck(order)
    order.feed(Retry("ops-7"))
    order.undo_all()
    assert order.saga.state is SagaState.REJECTED
    assert order.events[-1].reason is OutcomeReason.PAYMENT_DECLINED


def test_retry_of_a_step_gives_it_a_new_deadline(lead):
    order = lead().run_to("hold")
    order.feed(StepDeadLettered("o-1:hold:do", "bug"))
    order.wait(86_400)
    assert order.sent(Retry("ops")) == ["hold:do"]
    assert order.saga.deadline_at == order.now + timedelta(seconds=60)
    order.run_to("commit").complete()
    assert order.saga.state is SagaState.CONFIRMED


@pytest.mark.parametrize("outcome", [SagaState.REJECTED, SagaState.CANCELLED])
def test_f20_settle_ends_a_compensation_and_is_audited(lead, outcome):
    order = stuck(compensating(lead))
    order.feed(order.undone("hold"))
    order.feed(Settle("ops-7", outcome, "units counted by hand"))
    assert order.saga.state is outcome
    assert (order.saga.stuck, order.saga.timer_at) == (None, None)
    assert order.events[-1].reason is OutcomeReason.SETTLED_BY_OPERATOR
    assert order.events[-1].note == "units counted by hand"
    assert order.history[-1].note == "by ops-7: units counted by hand"
    assert order.status("reserve") == StepStatus.SETTLED
    assert owed(order.saga).steps == ()


def test_f20_a_late_success_after_settling_is_undone_once(lead):
    order = stuck(compensating(lead))
    order.feed(Settle("ops", SagaState.REJECTED, "by hand"))
    told = list(order.told)
    assert order.sent(order.done("reserve")) == ["reserve:undo"]
    assert isinstance(order.feed(order.done("reserve")), Ignored)
    stuck(order)
    assert order.saga.state is SagaState.REJECTED
    wrong = Settle("ops", SagaState.CANCELLED, "by hand")
    assert refusal(order.feed(wrong)) is OperatorRefusal.OUTCOME_IMPOSSIBLE
    order.feed(Settle("ops", SagaState.REJECTED, "by hand again"))
    assert order.told == told
    assert order.sent(order.undone("reserve")) == []
    assert isinstance(order.feed(order.done("reserve")), Ignored)


def test_settle_before_the_pivot_undoes_first(lead):
    order = lead().run_to("charge")
    order.feed(StepDeadLettered("o-1:charge:do", "bug"))
    settle = Settle("ops", SagaState.CANCELLED, "bug 42")
    assert order.sent(settle) == ["charge:undo", "hold:undo", "reserve:undo"]
    assert order.saga.state is SagaState.COMPENSATING
    order.undo_all()
    assert order.saga.state is SagaState.CANCELLED
    assert order.events[-1].reason is OutcomeReason.SETTLED_BY_OPERATOR


@pytest.mark.parametrize("outcome", [*SagaState])
def test_settle_can_not_turn_an_outcome_around(lead, outcome):
    undoing, completing = stuck(compensating(lead)), stuck(lead().run_to("commit"))
    settle = Settle("ops", outcome, "by hand")
    possible = outcome in (SagaState.REJECTED, SagaState.CANCELLED)
    assert isinstance(undoing.feed(settle), Refused) is not possible
    assert isinstance(completing.feed(settle), Refused) is (outcome is not SagaState.CONFIRMED)


def test_settle_after_the_pivot_tells_nothing_new(lead):
    order = stuck(lead().run_to("commit"))
    told = list(order.told)
    order.feed(Settle("ops", SagaState.CONFIRMED, "sold by hand"))
    assert order.saga.state is SagaState.CONFIRMED
    assert order.told == told
    assert order.status("commit") == StepStatus.SETTLED
    order.feed(order.done("commit"))
    assert order.status("commit") == StepStatus.DONE
    assert order.saga.timer_at is None
