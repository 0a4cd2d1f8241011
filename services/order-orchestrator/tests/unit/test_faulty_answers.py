"""Answers that should not be: dead letters, replies to nothing, replies against their command."""

import pytest

from order_orchestrator.domain import SagaState
from order_orchestrator.events import Ignored, IgnoreReason, StepDeadLettered, Transition
from order_orchestrator.saga import STEPS
from shared.contracts.effects import Effect

BEFORE_PIVOT = [step.name for step in STEPS if step.undo]
AFTER_PIVOT = [step.name for step in STEPS if not step.undo]


@pytest.fixture(params=[False, True], ids=["pay now", "pay later"])
def order(request, lead):
    return lead(later=request.param)


@pytest.mark.parametrize("step", AFTER_PIVOT)
def test_refused_after_the_pivot_is_a_fault_for_an_operator(lead, step):
    order = lead().run_to(step)
    order.feed(order.refused(step))
    assert order.saga.stuck is not None
    assert order.saga.state is SagaState.COMPLETING
    assert f"{step}:do" in order.out
    assert order.feed(order.refused(step)) == Ignored(IgnoreReason.DUPLICATE)
    assert "OrderRejected" not in order.told


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_done_after_refused_is_undone_once(lead, step):
    order = lead().run_to(step)
    order.feed(order.refused(step))
    order.undo_all()
    assert order.sent(order.done(step)) == [f"{step}:undo"]
    order.feed(order.undone(step, Effect.NOTHING))
    assert order.feed(order.done(step)) == Ignored(IgnoreReason.UNDO_COVERS_IT)


@pytest.mark.parametrize("step", [step.name for step in STEPS])
def test_a_dead_letter_makes_the_saga_stuck_until_it_is_answered(order, step):
    order.run_to(step)
    dead = StepDeadLettered(f"o-1:{step}:do", "fold raised")
    assert isinstance(order.feed(dead), Transition)
    assert order.saga.stuck is not None
    assert "fold raised" in order.saga.stuck.why
    assert order.saga.timer_at is None
    assert order.feed(dead) == Ignored(IgnoreReason.DUPLICATE)
    order.feed(order.done(step))
    order.run_to("commit") if step in BEFORE_PIVOT else order.complete()
    assert order.saga.stuck is None


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_a_dead_letter_of_an_undo_makes_the_saga_stuck(order, step):
    order.leave_in_doubt(step)
    order.feed(StepDeadLettered(f"o-1:{step}:undo", "fold raised"))
    assert order.saga.stuck is not None
    assert order.saga.state is SagaState.COMPENSATING
    order.undo_all()
    assert order.saga.stuck is None
    assert order.saga.state is SagaState.REJECTED


def test_a_dead_letter_that_nothing_waits_for_is_ignored(lead):
    order = lead().run_to("hold")
    for command_id in ("o-1:reserve:do", "o-1:reserve:undo", "o-1:charge:do"):
        dead = StepDeadLettered(command_id, "")
        assert order.feed(dead) == Ignored(IgnoreReason.NOT_OUTSTANDING)
    for command_id in ("o-1:use:undo", "o-2:hold:do", "hold:do", ""):
        assert order.feed(StepDeadLettered(command_id, "")) == Ignored(IgnoreReason.OTHER_STEP)


def test_f10_replies_of_another_order_or_step_are_ignored(lead):
    order = lead().run_to("hold")
    other = lead(order_id="o-2").run_to("hold").done("hold")
    assert order.feed(other) == Ignored(IgnoreReason.OTHER_ORDER)
    held = order.done("hold")
    for command_id in ("o-1:charge:do", "o-1:hold:undo", "o-2:hold:do", "hold:do", "o-1:x:do"):
        reply = held.model_copy(update={"command_id": command_id})
        assert order.feed(reply) == Ignored(IgnoreReason.OTHER_STEP)
    assert order.feed(order.done("charge")) == Ignored(IgnoreReason.NEVER_SENT)
    assert order.feed(order.refused("commit")) == Ignored(IgnoreReason.NEVER_SENT)
    assert order.saga.state is SagaState.HOLDING


def wrong_replies(order, step):
    done = order.done(step)
    match step:
        case "reserve":
            first, second = done.items
            more = first.model_copy(update={"quantity": 3})
            return [
                done.model_copy(update={"items": items})
                for items in ((first,), (first, more), (more, second), (first, second, second))
            ]
        case "hold":
            return [done.model_copy(update={"discount": 3_001})]
        case _:
            part = done.parts[0]
            less = part.model_copy(update={"amount": part.amount - 1})
            return [
                done.model_copy(update={"parts": (less,)}),
                done.model_copy(update={"currency": "USD"}),
            ]


@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_a_reply_that_contradicts_its_command_is_for_an_operator(lead, step):
    for number in range(len(wrong_replies(lead().run_to(step), step))):
        order = lead().run_to(step)
        wrong = wrong_replies(order, step)[number]
        assert order.sent(wrong) == []
        assert order.saga.stuck is not None
        assert order.out == [f"{step}:do"]
        assert order.feed(wrong) == Ignored(IgnoreReason.DUPLICATE)


def test_f10_a_reply_of_the_wrong_kind_under_the_right_id_is_ignored(lead):
    order = lead().run_to("hold")
    for kind in ("done", "refused"):
        reply = getattr(order, kind)("charge").model_copy(update={"command_id": "o-1:hold:do"})
        assert order.feed(reply) == Ignored(IgnoreReason.OTHER_STEP)
    order.leave_in_doubt("hold")
    reply = order.undone("charge").model_copy(update={"command_id": "o-1:hold:undo"})
    assert order.feed(reply) == Ignored(IgnoreReason.OTHER_STEP)
    assert order.out == ["hold:undo", "reserve:undo"]
