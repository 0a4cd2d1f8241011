"""The commands that ask the orchestrator's admin port."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from orderctl.admin_api import AdminApi
from orderctl.errors import OperatorError
from orderctl.main import app
from orderctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER: dict[str, Any] = {
    "orderId": "o-1",
    "state": "COMPENSATING",
    "status": "COMPENSATING",
    "version": 4,
    "steps": {"reserve": "undoing", "hold": "skipped"},
    "stuck": {"since": "2026-01-31T09:00:00.000Z", "why": "no answer"},
    "owed": {
        "units": [{"productId": "P001", "quantity": 2}],
        "money": 2_500,
        "currency": "KRW",
        "couponId": None,
        "steps": ["reserve", "charge"],
    },
    "reason": "saga_timeout",
    "note": None,
    "history": [
        {"version": 1, "state": "RESERVING", "cause": "PlaceOrder", "at": "then", "note": None}
    ],
}


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*arguments, "--url", "http://orchestrator"])
    return result.exit_code, result.stdout, result.stderr


def test_show_tells_what_is_owed(answers: Callable[..., list[httpx.Request]]) -> None:
    asked = answers(200, ORDER)
    code, said, _ = invoke("show", "o-1")
    assert code == 0
    assert asked[0].url == "http://orchestrator/sagas/o-1"
    for text in ("2 of P001", "2,500 KRW", "saga_timeout", "no answer", "PlaceOrder"):
        assert text in said


def test_what_is_in_doubt_is_told_apart_from_what_is_held(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    doubted = {"units": [], "money": 2_500, "currency": "KRW", "couponId": None}
    owed = ORDER["owed"] | {"inDoubt": doubted | {"steps": ["charge"]}}
    answers(200, ORDER | {"owed": owed})
    said = " ".join(invoke("show", "o-1")[1].split())
    assert "owed held: 2 of P001 (steps reserve); in doubt (sent" in said
    assert "may not have happened): 2,500 KRW (steps charge)" in said


def test_show_as_json_is_what_was_answered(answers: Callable[..., list[httpx.Request]]) -> None:
    answers(200, ORDER)
    _, said, _ = invoke("show", "o-1", "--json")
    assert json.loads(said) == ORDER


def test_an_unknown_order_fails_with_what_the_orchestrator_says(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    answers(404, {"title": "Unknown order", "detail": "there is no order o-2"})
    code, _, error = invoke("show", "o-2")
    assert (code, error) == (1, "orderctl: Unknown order: there is no order o-2\n")


def test_f20_settle_says_who_and_why(answers: Callable[..., list[httpx.Request]]) -> None:
    asked = answers(200, ORDER)
    code, _, _ = invoke(
        "settle", "o-1", "--outcome", "REJECTED", "--note", "refunded by hand", "--operator", "ann"
    )
    assert code == 0
    assert asked[0].method == "POST"
    assert asked[0].url.path == "/sagas/o-1/settle"
    assert json.loads(asked[0].content) == {
        "operator": "ann",
        "note": "refunded by hand",
        "outcome": "REJECTED",
    }


@pytest.mark.parametrize("action", ["cancel", "retry", "settle"])
def test_f20_nobody_acts_without_a_reason(
    answers: Callable[..., list[httpx.Request]], action: str
) -> None:
    asked = answers(200, ORDER)
    assert invoke(action, "o-1")[0] == 2
    assert asked == []


def test_what_users_wrote_can_not_steer_the_terminal(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    hostile = "\x1b[2J\x9b31m\r\x07[red]:smile:"
    shown = r"\x1b[2J\x9b31m\x0d\x07[red]:smile:"
    ordered = {"items": [], "reference": f"R{hostile}", "payment": {"method": "wallet"}}
    stuck = {"since": "then", "why": f"W{hostile}"}
    history = [{**ORDER["history"][0], "note": f"H{hostile}"}]  # type: ignore[index]
    order = ORDER | {"note": f"N{hostile}", "ordered": ordered, "stuck": stuck, "history": history}
    answers(200, order)
    said = invoke("show", "o-1")[1]
    for mark in "RWNH":
        assert f"{mark}{shown}" in "".join(line.strip() for line in said.splitlines())
    stuck_one = {"orderId": "o-1", "state": "CHARGING", "why": hostile, "since": hostile}
    counts = [{"state": "CHARGING", "why": hostile, "orders": 1}]
    answers(200, {"orders": [stuck_one], "next": None, "counts": counts})
    listed = invoke("list", "--all")[1]
    assert listed.count(":smile:") == 3, listed
    said += listed
    group = {**stuck_one, "steps": hostile, "orders": 1, "example": hostile}
    answers(200, {"groups": [group], "more": False})
    grouped = invoke("list")[1]
    assert ":smile:" in grouped
    said += grouped
    answers(409, {"title": "Refused", "detail": hostile})
    code, _, error = invoke("retry", "o-1", "--note", "x")
    assert (code, error) == (1, f"orderctl: Refused: {shown}\n")
    answers(200, order)
    said += invoke("show", "o-1", "--json")[1]
    assert not set(said) & set("\x1b\x9b\r\x07")


def test_controls_and_what_can_not_be_written_are_shown() -> None:
    assert visible("\x7f\u202e\ud800\n\t") == r"\x7f\u202e\ud800\x0a\x09"
    assert visible("a\nb\x1b", keep="\n") == "a\nb" + r"\x1b"
    assert visible("주문 ü €") == "주문 ü €"


@pytest.mark.parametrize("given", ["a b/c", "../metrics", "", "x" * 65, "o-1\n", "\x1b"])
@pytest.mark.parametrize("action", ["show", "cancel", "retry", "settle"])
def test_what_is_no_order_id_is_not_asked_for(
    answers: Callable[..., list[httpx.Request]], action: str, given: str
) -> None:
    asked = answers(200, ORDER)
    options = {"show": [], "settle": ["--outcome", "REJECTED", "--note", "why"]}
    code, said, error = invoke(action, given, *options.get(action, ["--note", "why"]))
    assert (code, said, asked) == (2, "", [])
    assert error.startswith("orderctl: '")
    assert error.endswith("' is no order id: 1 to 64 of A-Z a-z 0-9 . _ -\n")


WHOLE = ORDER | {
    "state": "REJECTED",
    "status": "REJECTED",
    "stuck": None,
    "reason": "out_of_stock",
    "details": [{"productId": "P001", "requested": 2, "available": 1}],
    "ordered": {
        "userId": "user_1",
        "items": [
            {"productId": "P001", "quantity": 2, "unitPrice": 12_000},
            {"productId": "P002", "quantity": 1, "unitPrice": 500},
        ],
        "couponId": "WELCOME10",
        "payment": {"method": "gateway", "points": 50},
        "pay": "later",
        "total": 24_400,
        "discount": 100,
        "currency": "KRW",
        "expectedTotal": 24_000,
        "reference": "cart-7",
    },
    "acceptedAt": "2026-11-22T20:31:05.123Z",
    "deadlineAt": "2026-11-22T20:32:05.123Z",
    "payBy": "2026-11-23T00:00:00.000Z",
    "history": [
        {
            "version": 1, "state": "AWAITING_PAYMENT", "cause": "StepDeadLettered",
            "at": "2026-11-22T20:31:05.456Z", "note": "insufficient_balance",
        },
        {
            "version": 100, "state": "REJECTED", "cause": "OperatorCancel",
            "at": "2026-11-23T01:02:03.004Z", "note": "x" * 150,
        },
    ],
}  # fmt: skip


def test_at_80_columns_nothing_is_cut_off(answers: Callable[..., list[httpx.Request]]) -> None:
    answers(200, WHOLE)
    said = invoke("show", "o-1")[1]
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in said
    assert said.count("x") - said.count("x", 0, said.index("OperatorCancel")) == 150
    for text in (
        "StepDeadLettered", "AWAITING_PAYMENT", "20:31:05.456", "01:02:03.004",
        "insufficient_balance",
    ):  # fmt: skip
        assert text in said
    assert said.count("2026-11-22") == 1
    (deadline,) = (line.split() for line in lines if line.startswith("deadline"))
    assert deadline == ["deadline", "20:32:05.123"]
    (pay_by,) = (line for line in lines if line.startswith("pay by"))
    assert "2026-11-23 00:00:00.000" in pay_by
    history = lines[next(n for n, line in enumerate(lines) if line.startswith("v ")) :]
    assert history[2].split() == ["insufficient_balance"]
    assert history[3].split() == ["2026-11-23"]


def test_show_tells_what_was_ordered_and_why_it_was_rejected(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    answers(200, WHOLE)
    facts = {line[:11].strip(): line[11:].strip() for line in invoke("show", "o-1")[1].splitlines()}
    assert facts["status"] == "REJECTED"
    assert facts["details"] == "P001: 2 requested, 1 available"
    assert facts["items"] == "2 of P001 at 12,000, 1 of P002 at 500"
    assert facts["coupon"] == "WELCOME10"
    assert facts["payment"] == "gateway, later, 50 points"
    assert facts["total"] == "24,400 KRW after 100 discount"
    assert facts["expected"] == "24,000 KRW"
    assert (facts["user"], facts["reference"]) == ("user_1", "cart-7")


def test_an_id_can_not_lead_to_another_path() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/sagas/..%2Fmetrics"
        return httpx.Response(404, json={"title": "Unknown order"})

    with pytest.raises(OperatorError, match="Unknown order"):
        AdminApi("http://orchestrator", httpx.MockTransport(handle)).order("../metrics")


def test_an_orchestrator_that_is_away_is_named() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(OperatorError, match="http://orchestrator can't be reached: refused"):
        AdminApi("http://orchestrator", httpx.MockTransport(handle)).search()


def test_a_port_of_something_else_is_noticed() -> None:
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    with pytest.raises(OperatorError, match="no JSON"):
        AdminApi("http://orchestrator", page).search()


def test_an_orchestrator_that_is_slow_is_not_said_to_have_another_address() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("timed out", request=request)

    with pytest.raises(OperatorError, match="doesn't answer within 10 s; `make status`") as told:
        AdminApi("http://orchestrator", httpx.MockTransport(handle)).search()
    assert "make env" not in str(told.value)
