"""F20: what can't be ended by itself is stuck, and an operator sends again or settles it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shared.testing.builders import place_order

if TYPE_CHECKING:
    from pathlib import Path

    from shared.testing.proxy import Proxy

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import OwnStage, Stage

SILENT = "silent"
NAMES = ("retried", "settled", "mended", "cancelled", "confirmed")


@pytest.fixture(scope="module", autouse=True)
async def stuck_orders(shared_stage: Stage) -> None:
    """Orders whose release nobody answers, and one whose commit nobody answers."""
    for name in NAMES[:-1]:
        release = [SILENT, SILENT, "done"] if name in ("retried", "mended") else [SILENT]
        shared_stage.cast(f"op-{name}", charge=["refused"], reserve_undo=release)
    shared_stage.cast("op-confirmed", commit=[SILENT])
    await shared_stage.publish(*[place_order(f"op-{name}") for name in NAMES])


async def test_f20_it_is_visible_with_what_is_owed(stage: Stage) -> None:
    for name in NAMES:
        document = await stage.until(f"op-{name}", stuck=...)
        assert "unanswered after 2 sends" in document["stuck"]["why"]
        assert document["owed"]["units"] == [{"productId": "P001", "quantity": 1}]
        assert document["owed"]["money"] == 0
        types = [event.type for event in await stage.events(f"op-{name}")]
        if name == "confirmed":
            assert document["status"] == "CONFIRMED"
            assert types == ["OrderAccepted", "OrderConfirmed"]
        else:
            assert document["status"] == "COMPENSATING"
            assert types == ["OrderAccepted"], "no outcome before all is undone"
    async with stage.orchestrator.admin() as client:
        listed = (await client.get("/sagas")).json()
        page = (await client.get("/search", params={"scope": "stuck", "limit": 1_000})).json()
        groups = (await client.get("/search/stuck-groups")).json()["groups"]
    for orders in (listed, page["orders"]):
        assert {f"op-{name}" for name in NAMES} <= {one["orderId"] for one in orders}
    steps = {group["steps"]: group["orders"] for group in groups}
    assert steps["commit:do"] >= 1
    assert steps["reserve:undo"] >= len(NAMES) - 1


async def test_f20_its_history_tells_what_was_sent_and_said(stage: Stage) -> None:
    document = await stage.until("op-cancelled", stuck=...)
    assert [(out["type"], out["topic"]) for out in document["waitsFor"]] == [
        ("ReleaseStock", "stock.commands.v1")
    ]
    assert (document["sends"], document["settleAs"]) == (2, ["REJECTED", "CANCELLED"])
    told = [name for entry in document["history"] for name in entry["commands"]]
    assert sorted(told) == sorted(stage.commands("op-cancelled"))
    assert [name for entry in document["history"] for name in entry["events"]] == [
        event.type for event in await stage.events("op-cancelled")
    ]


async def test_f20_others_go_on(stage: Stage, order_id: str) -> None:
    await stage.publish(place_order(order_id))
    assert (await stage.outcome(order_id)).type == "OrderConfirmed"


async def test_f20_sent_again_by_an_operator_it_ends(stage: Stage) -> None:
    await stage.until("op-retried", stuck=...)
    status, document = await stage.act("op-retried", "retry", operator="bob", note="stock is back")
    assert (status, document["stuck"]) == (200, None)
    outcome = await stage.outcome("op-retried")
    assert (outcome.type, outcome.reason) == ("OrderRejected", "insufficient_balance")
    history = (await stage.saga("op-retried"))["history"]
    assert [entry["note"] for entry in history if entry["cause"] == "Retry"] == [
        "by bob: stock is back"
    ]


async def test_f20_settled_by_an_operator_it_ends_and_a_late_undo_is_noted(
    stage: Stage, answers: Answers
) -> None:
    await stage.until("op-settled", stuck=...)
    status, document = await stage.act(
        "op-settled", "settle", operator="bob", note="units written off", outcome="REJECTED"
    )
    assert (status, document["state"]) == (200, "REJECTED")
    assert document["steps"]["reserve"] == "settled"
    assert document["owed"]["units"] == []
    outcome = await stage.outcome("op-settled")
    assert (outcome.reason, outcome.note) == ("settled_by_operator", "units written off")
    history = (await stage.saga("op-settled"))["history"]
    assert history[-1]["cause"] == "Settle"
    assert history[-1]["note"] == "by bob: units written off"
    release = await stage.command("op-settled", "reserve:undo")
    await stage.reply(answers.done(release))
    await stage.all_read()
    assert (await stage.saga("op-settled"))["steps"]["reserve"] == "undone"
    assert len(await stage.events("op-settled")) == 2


async def test_f20_past_the_pivot_only_a_confirmation_can_be_settled(stage: Stage) -> None:
    await stage.until("op-confirmed", stuck=...)
    status, problem = await stage.act("op-confirmed", "settle", outcome="REJECTED")
    assert (status, problem["reason"]) == (409, "outcome_impossible")
    status, document = await stage.act("op-confirmed", "settle", outcome="CONFIRMED")
    assert (status, document["state"]) == (200, "CONFIRMED")
    types = [event.type for event in await stage.events("op-confirmed")]
    assert types == ["OrderAccepted", "OrderConfirmed"]


async def test_f20_a_late_answer_ends_it_without_an_operator(
    stage: Stage, answers: Answers
) -> None:
    await stage.until("op-mended", stuck=...)
    await stage.reply(answers.done(await stage.command("op-mended", "reserve:undo")))
    assert (await stage.outcome("op-mended")).type == "OrderRejected"
    assert (await stage.saga("op-mended"))["stuck"] is None


async def test_an_operator_cancels_as_a_user_could(stage: Stage, order_id: str) -> None:
    await stage.publish(place_order(order_id, pay="later"))
    await stage.event(order_id, "OrderAwaitingPayment")
    status, document = await stage.act(order_id, "cancel", operator="bob", note="fraud")
    assert (status, document["state"]) == (200, "COMPENSATING")
    outcome = await stage.outcome(order_id)
    assert (outcome.reason, outcome.note) == ("cancelled_by_operator", "fraud")
    notes = [entry["note"] for entry in (await stage.saga(order_id))["history"]]
    assert "by bob: fraud" in notes
    status, problem = await stage.act(order_id, "cancel")
    assert (status, problem["reason"]) == (409, "already_cancelled")


@pytest.mark.parametrize(
    ("action", "body", "status", "told"),
    [
        ("retry", {}, 409, "not_stuck"),
        ("settle", {"outcome": "REJECTED"}, 409, "not_stuck"),
        ("settle", {}, 400, "outcome"),
        ("settle", {"outcome": "LOST"}, 400, "outcome"),
        ("retry", {"operator": ""}, 400, "operator"),
        ("retry", {"note": "x" * 501}, 400, "note"),
        ("retry", {"note": "nul\0"}, 400, "note"),
        ("retry", {"force": "yes"}, 400, "force"),
        ("cancel", {"note": ""}, 400, "note"),
    ],
)
async def test_what_can_not_be_done_is_said(
    stage: Stage, order_id: str, action: str, body: dict[str, str], status: int, told: str
) -> None:
    await stage.publish(place_order(order_id, pay="later"))
    await stage.event(order_id, "OrderAwaitingPayment")
    before = await stage.saga(order_id)
    answer: tuple[int, Any] = await stage.act(order_id, action, **body)
    assert answer[0] == status
    assert told in str(answer[1])
    assert await stage.saga(order_id) == before


async def test_f21_an_unreadable_saga_is_shown_as_such(stage: Stage, order_id: str) -> None:
    await stage.publish(place_order(order_id, pay="later"))
    await stage.event(order_id, "OrderAwaitingPayment")
    progress = await stage.value(
        "UPDATE saga SET progress = '{\"v\":9}', version = version + 1 WHERE order_id = $1"
        " RETURNING progress",
        order_id,
    )
    assert progress
    try:
        document = await stage.saga(order_id)
        assert "steps" in document["unreadable"]
        status, problem = await stage.act(order_id, "cancel")
        assert (status, problem["reason"]) == (409, "unreadable_saga")
    finally:
        await stage.value("DELETE FROM saga WHERE order_id = $1", order_id)


async def test_an_unknown_order_is_not_found(stage: Stage) -> None:
    status, problem = await stage.act("o-nowhere", "cancel")
    assert (status, problem["title"]) == (404, "Unknown order")


@pytest.mark.parametrize("order_id", ["%00", "a%20b", "%1b[31m"])
async def test_what_is_no_order_id_is_not_found(stage: Stage, order_id: str) -> None:
    async with stage.orchestrator.admin() as client:
        response = await client.get(f"/sagas/{order_id}")
    assert (response.status_code, response.json()["title"]) == (404, "Unknown order")


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_f44_while_the_database_is_away_that_is_what_operators_are_told(
    own_stage: OwnStage, postgres_proxy: Proxy, tmp_path: Path, *, hangs: bool
) -> None:
    stage = await own_stage(instances=0)
    address = postgres_proxy.through(stage.database.dsn("orders"))
    await stage.start(tmp_path, DATABASE_URL=address)
    if hangs:
        postgres_proxy.half_open()
    else:
        await postgres_proxy.refuse()
        postgres_proxy.cut()
    action = {"operator": "ann", "note": "a test"}
    async with httpx.AsyncClient(base_url=stage.orchestrator.admin_url, timeout=10.0) as client:
        answers = [
            await client.get("/sagas"),
            await client.get("/sagas/o-1"),
            await client.post("/sagas/o-1/cancel", json=action),
        ]
    for answer in answers:
        assert (answer.status_code, answer.json()["detail"]) == (503, "the database doesn't answer")
    assert "ASGI" not in stage.orchestrator.log()
    await postgres_proxy.heal()
    await stage.orchestrator.wait_ready(within_s=60)
    status, _ = await stage.act("o-1", "cancel")
    assert status == 404
