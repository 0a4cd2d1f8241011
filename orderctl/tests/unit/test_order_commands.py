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

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = {
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


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Any], list[httpx.Request]]:
    """Lets the admin port answer so, and returns what it was asked."""

    def answer(status: int, body: Any) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(status, json=body)

        transport = httpx.MockTransport(handle)
        monkeypatch.setattr(
            "orderctl.order_commands.AdminApi", lambda url: AdminApi(url, transport)
        )
        return asked

    return answer


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


def test_list_stuck(answers: Callable[..., list[httpx.Request]]) -> None:
    answers(200, [{"orderId": "o-1", "state": "CHARGING", "why": "no answer", "since": "then"}])
    assert "no answer" in invoke("list", "--stuck")[1]
    answers(200, [])
    assert invoke("list", "--stuck") == (0, "no order is stuck\n", "")


def test_stuck_orders_are_the_default_list(answers: Callable[..., list[httpx.Request]]) -> None:
    answers(200, [{"orderId": "o-1", "state": "CHARGING", "why": "no answer", "since": "then"}])
    assert invoke("list") == invoke("list", "--stuck")
    assert invoke("list")[0] == 0


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
        AdminApi("http://orchestrator", httpx.MockTransport(handle)).stuck()


def test_a_port_of_something_else_is_noticed() -> None:
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    with pytest.raises(OperatorError, match="no JSON"):
        AdminApi("http://orchestrator", page).stuck()


def test_an_orchestrator_that_is_slow_is_not_said_to_have_another_address() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("timed out", request=request)

    with pytest.raises(OperatorError, match="doesn't answer within 10 s; `make status`") as told:
        AdminApi("http://orchestrator", httpx.MockTransport(handle)).stuck()
    assert "make env" not in str(told.value)
