"""Refusal, silence and late answers at each step of the table, from Kafka to Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from order_orchestrator.saga import CHARGE, PIVOT, STEPS
from shared.testing.builders import place_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import Stage

BEFORE_PIVOT = [step.name for step in STEPS[:PIVOT]]
AFTER_PIVOT = [step.name for step in STEPS[PIVOT:]]
ALL = [step.name for step in STEPS]
SILENT = "silent"
REASONS = {
    "reserve": "out_of_stock",
    "hold": "coupon_refused",
    "charge": "insufficient_balance",
}


def undos_of(steps: list[str]) -> list[str]:
    return sorted(f"{step}:undo" for step in steps)


async def run_all(stage: Stage, orders: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Casts and places the orders of several tests at once, so that they wait together."""
    for order_id, parts in orders.items():
        stage.cast(order_id, **parts)
    await stage.publish(*[place_order(order_id, coupon_id="WELCOME10") for order_id in orders])


@pytest.fixture(scope="module")
async def placed(shared_stage: Stage) -> None:
    """All orders of this module, under the names of their parts."""
    orders: dict[str, dict[str, list[str]]] = {"willing": {}}
    for step in BEFORE_PIVOT:
        orders[f"refused-{step}"] = {step: ["refused"]}
        orders[f"silent-{step}"] = {step: [SILENT], f"{step}_undo": ["nothing"]}
        orders[f"late-{step}"] = {step: [SILENT], f"{step}_undo": ["nothing"]}
        orders[f"mistaken-{step}"] = {step: ["refused"]}
        orders[f"undo-lost-{step}"] = {"charge": ["refused"], f"{step}_undo": [SILENT, "done"]}
    for step in ALL:
        orders[f"lost-{step}"] = {step: [SILENT, "done"]}
    for step in AFTER_PIVOT:
        orders[f"stuck-{step}"] = {step: [SILENT]}
    await run_all(shared_stage, orders)


pytestmark = pytest.mark.usefixtures("placed")


async def test_every_step_is_done_once_and_in_order(stage: Stage) -> None:
    outcome = await stage.outcome("willing")
    assert outcome.type == "OrderConfirmed"
    assert (outcome.total, outcome.discount) == (900, 100)
    await stage.until("willing", state="CONFIRMED")
    sent = stage.commands("willing")
    assert sent[:PIVOT] == [f"{step}:do" for step in BEFORE_PIVOT]
    assert sorted(sent[PIVOT:]) == sorted(f"{step}:do" for step in AFTER_PIVOT)
    types = [event.type for event in await stage.events("willing")]
    assert types == ["OrderAccepted", "OrderConfirmed"]


@pytest.mark.parametrize("step", BEFORE_PIVOT)
async def test_a_refusal_undoes_the_steps_before(stage: Stage, step: str) -> None:
    order_id = f"refused-{step}"
    outcome = await stage.outcome(order_id)
    assert (outcome.type, outcome.reason) == ("OrderRejected", REASONS[step])
    before = BEFORE_PIVOT[: BEFORE_PIVOT.index(step)]
    sent = stage.commands(order_id)
    assert sent[: len(before) + 1] == [f"{name}:do" for name in [*before, step]]
    assert sorted(sent[len(before) + 1 :]) == undos_of(before)


@pytest.mark.parametrize("step", BEFORE_PIVOT)
async def test_silence_is_asked_again_and_then_undone_in_doubt(stage: Stage, step: str) -> None:
    order_id = f"silent-{step}"
    outcome = await stage.outcome(order_id)
    expected = "payment_timeout" if step == STEPS[CHARGE].name else "saga_timeout"
    assert (outcome.type, outcome.reason) == ("OrderRejected", expected)
    sent = stage.commands(order_id)
    assert sent.count(f"{step}:do") >= 2, "the same id was sent again first"
    reached = BEFORE_PIVOT[: BEFORE_PIVOT.index(step) + 1]
    undos = [name for name in sent if name.endswith(":undo")]
    assert sorted(undos) == undos_of(reached), "what is in doubt is undone as well, once"
    document = await stage.saga(order_id)
    assert document["steps"][step] == "absent"
    history = [entry["state"] for entry in document["history"]]
    assert history[-2:] == ["COMPENSATING", "REJECTED"]


@pytest.mark.parametrize("step", BEFORE_PIVOT)
async def test_f13_a_late_success_is_undone_once(stage: Stage, answers: Answers, step: str) -> None:
    """It was given up, its undo found nothing, and then it is done after all."""
    order_id = f"late-{step}"
    await stage.outcome(order_id)
    command = await stage.command(order_id, f"{step}:do")
    for _ in range(3):
        await stage.reply(answers.done(command))
    await stage.command(order_id, f"{step}:undo", copies=2)
    document = await stage.until(order_id, timerAt=None)
    await stage.all_read()
    assert document["steps"][step] == "undone"
    assert stage.commands(order_id).count(f"{step}:undo") == 2
    assert [event.type for event in await stage.events(order_id)].count("OrderRejected") == 1


@pytest.mark.parametrize("step", BEFORE_PIVOT)
async def test_f13_done_after_it_was_refused_is_undone_too(
    stage: Stage, answers: Answers, step: str
) -> None:
    order_id = f"mistaken-{step}"
    await stage.outcome(order_id)
    done = answers.done(await stage.command(order_id, f"{step}:do"))
    # what a participant says in contradiction comes under another inbox type: `…Reserved`
    await stage.reply(done, done)
    await stage.command(order_id, f"{step}:undo")
    await stage.until(order_id, timerAt=None)
    await stage.all_read()
    assert stage.commands(order_id).count(f"{step}:undo") == 1


@pytest.mark.parametrize("step", ALL)
async def test_f22_a_lost_command_is_sent_again_under_its_id(stage: Stage, step: str) -> None:
    """Lost after it was acknowledged, the command or its reply: the watchdog sends it again."""
    order_id = f"lost-{step}"
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"
    document = await stage.until(order_id, state="CONFIRMED")
    # the clock may have sent a third copy before the reply was read
    assert stage.commands(order_id).count(f"{step}:do") >= 2
    assert not [name for name in stage.commands(order_id) if name.endswith(":undo")]
    versions = [entry["version"] for entry in document["history"]]
    assert versions == list(range(1, len(versions) + 1))


@pytest.mark.parametrize("step", [step for step in BEFORE_PIVOT if step != "charge"])
async def test_a_lost_undo_is_sent_again(stage: Stage, step: str) -> None:
    order_id = f"undo-lost-{step}"
    outcome = await stage.outcome(order_id)
    assert outcome.reason == "insufficient_balance"
    assert stage.commands(order_id).count(f"{step}:undo") >= 2


@pytest.mark.parametrize("step", AFTER_PIVOT)
async def test_f20_past_the_pivot_silence_ends_with_an_operator(stage: Stage, step: str) -> None:
    """Never undone: the order stays confirmed to the world, and the saga is stuck."""
    order_id = f"stuck-{step}"
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"
    document = await stage.until(order_id, stuck=...)
    assert (document["state"], document["status"]) == ("COMPLETING", "CONFIRMED")
    assert document["owed"]["steps"] == [step]
    assert document["timerAt"] is None
    assert stage.commands(order_id).count(f"{step}:do") == 2
    assert not [name for name in stage.commands(order_id) if name.endswith(":undo")]


async def test_all_of_it_is_sound(stage: Stage) -> None:
    await stage.is_sound()
    counts: dict[str, Any] = {}
    for record in await stage.topics.read("orders.events.v1"):
        counts.setdefault(record.headers["ce_id"], set()).add(record.value)
    assert all(len(values) == 1 for values in counts.values()), "equal each time it is said"
