"""The orchestrator dies, stands still, or has been away for longer than every deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from shared import crash_points
from shared.audit import audit_topics
from shared.testing.builders import pay_order, place_order
from shared.testing.processes import CRASHED
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import OwnStage, Stage

SILENT = "silent"
GROUPS = ("order-orchestrator", "order-orchestrator-requests")


async def past(stage: Stage, moment: str, orders: list[str]) -> None:
    """Returns once this moment of all these orders has passed, by the database's clock."""
    await eventually(
        lambda: stage.value(
            "SELECT count(*) = $2 AND bool_and((progress ->> $3)::timestamptz < clock_timestamp())"
            " FROM saga"
            " WHERE order_id = ANY ($1)",
            orders,
            len(orders),
            moment,
        ),
        within_s=60,
        describe=f"{moment} of {len(orders)} orders has passed",
    )


async def all_published(stage: Stage) -> None:
    """What was published is marked as well: nothing of it is sent again after a crash."""
    await eventually(
        lambda: stage.value("SELECT count(*) FROM outbox WHERE published_at IS NULL"),
        accept=lambda chunks: chunks == 0,
        describe="the outbox is published",
        within_s=60,
    )


async def at_rest(stage: Stage) -> None:
    """Everything is read and committed, and all invariants hold, those of the topics too."""
    await stage.all_read()
    await stage.is_sound()
    await all_published(stage)
    report = await audit_topics(stage.topics.connection, stage.database.operator_dsn, groups=GROUPS)
    report.require()


async def test_f18_after_an_outage_no_order_is_undone_whose_reply_was_waiting(
    own_stage: OwnStage, answers: Answers
) -> None:
    """Sent twice already, deadlines passed while it was down: all that was missing to be given up
    was to read the replies, which lie behind a backlog."""
    stage = await own_stage(CHUNK_MESSAGES="5")
    waiting = [f"waits-{number:02}" for number in range(40)]
    silent = [f"silent-{number}" for number in range(5)]
    paid = [f"paid-{number}" for number in range(5)]
    for order in [*waiting, *silent]:
        stage.cast(order, reserve=[SILENT], reserve_undo=["nothing"])
    await stage.publish(*map(place_order, [*waiting, *silent]))
    await stage.publish(*[place_order(order, pay="later") for order in paid])
    for order in [*waiting, *silent]:
        await stage.command(order, "reserve:do", copies=2)
    for order in paid:
        await stage.event(order, "OrderAwaitingPayment")

    # F40: an orderly end, within 10 s
    assert await stage.orchestrator.terminate() == 0
    await past(stage, "deadlineAt", [*waiting, *silent])
    commands = [await stage.command(order, "reserve:do") for order in waiting]
    backlog = [
        answers.done(commands[0]).model_copy(
            update={"order_id": f"nobody-{number}", "command_id": f"nobody-{number}:reserve:do"}
        )
        for number in range(1_000)
    ]
    await stage.topics.publish("stock.replies.v1", backlog)
    await stage.reply(*map(answers.done, commands))
    # their time to pay ends while nobody reads, and their payments lie there
    await stage.publish(*map(pay_order, paid))
    await stage.value(
        "UPDATE saga SET timer_at = now(),"
        " progress = (progress::jsonb || jsonb_build_object('payBy', now()))::json"
        " WHERE state = 'AWAITING_PAYMENT'"
    )
    started = stage.orchestrator.starts
    await stage.orchestrator.start(ready_within_s=60)
    assert stage.orchestrator.starts == started + 1

    for order in [*waiting, *paid]:
        outcome = await stage.outcome(order)
        assert outcome.type == "OrderConfirmed", outcome
        assert "reserve:undo" not in stage.commands(order)
    # whoever was never answered is given up all the same
    for order in silent:
        assert (await stage.outcome(order)).reason == "saga_timeout"
    await at_rest(stage)


async def test_f18_what_came_due_in_an_outage_is_sent_again_first(own_stage: OwnStage) -> None:
    """Sent once, then down past the deadline: the same id goes out before anything is undone,
    once, and its answer confirms the order."""
    stage = await own_stage()
    orders = [f"o-{number:02}" for number in range(30)]
    for order in orders:
        stage.cast(order, charge=[SILENT, "done"])
    await stage.publish(*map(place_order, orders))
    for order in orders:
        await stage.command(order, "charge:do")
    await all_published(stage)
    await stage.orchestrator.kill()
    await past(stage, "deadlineAt", orders)
    await stage.orchestrator.start(ready_within_s=60)
    for order in orders:
        assert (await stage.outcome(order)).type == "OrderConfirmed"
        assert stage.commands(order).count("charge:do") == 2
        assert "charge:undo" not in stage.commands(order)
    await at_rest(stage)


async def test_never_paid(own_stage: OwnStage) -> None:
    stage = await own_stage(PAY_DEADLINE_S="1")
    await stage.publish(place_order("o-1", pay="later", coupon_id="WELCOME10"))
    outcome = await stage.outcome("o-1")
    assert (outcome.type, outcome.reason) == ("OrderRejected", "payment_timeout")
    types = [event.type for event in await stage.events("o-1")]
    assert types == ["OrderAccepted", "OrderAwaitingPayment", "OrderRejected"]
    assert sorted(stage.commands("o-1")[2:]) == ["hold:undo", "reserve:undo"]
    await stage.publish(pay_order("o-1"))
    assert (await stage.refusal("o-1")).reason == "too_late"


async def test_f19_f39_one_of_two_stands_still_and_comes_back(own_stage: OwnStage) -> None:
    """Frozen in mid-work for longer than its session: the other takes over, its late writes lose,
    and it goes on with what is its own."""
    stage = await own_stage(instances=2, CHUNK_MESSAGES="7")
    frozen, other = stage.instances
    first = [f"a-{number:03}" for number in range(120)]
    await stage.publish(*[place_order(order, coupon_id="WELCOME10") for order in first])
    await eventually(
        lambda: stage.value("SELECT count(*) FROM saga WHERE told_at IS NOT NULL"),
        within_s=60,
        describe="the first orders are confirmed",
    )
    frozen.freeze()
    try:
        second = [f"b-{number:03}" for number in range(60)]
        await stage.publish(*[place_order(order, coupon_id="WELCOME10") for order in second])
        stage.instances.reverse()  # whoever can answer
        for order in [*first, *second]:
            assert (await stage.outcome(order)).type == "OrderConfirmed"
    finally:
        frozen.thaw()
    await frozen.wait_ready(within_s=60)
    third = [f"c-{number:03}" for number in range(60)]
    await stage.publish(*[place_order(order) for order in third])
    for order in third:
        assert (await stage.outcome(order)).type == "OrderConfirmed"
    assert other.is_running
    assert frozen.is_running
    await eventually(
        lambda: stage.value("SELECT count(*) FROM saga WHERE state <> 'CONFIRMED'"),
        accept=lambda left: left == 0,
        within_s=60,
        describe="all orders are complete",
    )
    await at_rest(stage)


async def test_f34_f46_killed_anywhere_each_order_has_one_outcome(own_stage: OwnStage) -> None:
    """At each crash point in turn, each time with orders under way."""
    stage = await own_stage(CHUNK_MESSAGES="10", SAGAS_WAITING="25")
    await stage.orchestrator.terminate()
    orders: list[str] = []
    for place in get_args(crash_points.PipelinePoint):
        batch = [f"{place}-{number:02}" for number in range(30)]
        for order in batch[::4]:
            stage.cast(order, charge=["refused"])
        await stage.publish(*[place_order(order, coupon_id="WELCOME10") for order in batch])
        orders += batch
        stage.orchestrator.spawn(crash_point=f"{place}:2")
        assert await stage.orchestrator.exited(within_s=60) == CRASHED, place
    await stage.orchestrator.start(ready_within_s=60)
    outcomes = [await stage.outcome(order) for order in orders]
    refused = [outcome for outcome in outcomes if outcome.type == "OrderRejected"]
    assert len(refused) == 5 * 8
    await eventually(
        lambda: stage.value(
            "SELECT count(*) FROM saga WHERE state NOT IN ('CONFIRMED', 'REJECTED')"
        ),
        accept=lambda left: left == 0,
        within_s=60,
        describe="all orders have ended",
    )
    await at_rest(stage)


async def test_f62_more_orders_than_may_wait(own_stage: OwnStage, answers: Answers) -> None:
    """Ten may wait for a reply; the others are accepted, stored, and start in their order."""
    stage = await own_stage(SAGAS_WAITING="10", STEP_RESEND_S="30", RESEND_AT_MOST_S="30",
                            ORDER_DEADLINE_S="60")  # fmt: skip
    orders = [f"o-{number:02}" for number in range(40)]
    for order in orders:
        stage.cast(order, reserve=[SILENT])
    # one key: one partition, so that the order of their coming is known
    await stage.publish(*map(place_order, orders))
    for order in orders:
        await stage.event(order, "OrderAccepted")
    waiting = "SELECT count(*) FROM saga WHERE waiting"
    await eventually(lambda: stage.value(waiting), accept=lambda found: found == 10)
    assert len(stage.sent) == 10
    answered = 0
    while answered < len(orders):
        await eventually(
            lambda since=answered: stage.sent[since:], within_s=60, describe="more have started"
        )
        assert await stage.value(waiting) <= 10
        batch = [command for _, command in stage.sent[answered:]]
        answered += len(batch)
        await stage.reply(*map(answers.refused, batch))
    for order in orders:
        assert (await stage.outcome(order)).type == "OrderRejected"
    began = await stage.value(
        "SELECT count(*) FROM saga AS a JOIN saga AS b ON a.accepted_at < b.accepted_at"
        " AND (a.progress ->> 'deadlineAt')::timestamptz"
        "     > (b.progress ->> 'deadlineAt')::timestamptz + interval '10 s'"
    )
    assert began == 0, "nobody was left behind"
    await at_rest(stage)
