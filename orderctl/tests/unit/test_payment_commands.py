"""`orderctl payment`: what it asks payment's admin port, and what it makes of answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from orderctl import payment_commands, payment_text
from orderctl.admin_api import PaymentApi
from orderctl.main import app
from payment.calls import CLOSED
from shared.reconciliation import describing

if TYPE_CHECKING:
    from collections.abc import Callable

    Port = Callable[[Callable[[httpx.Request], tuple[int, Any]]], list[httpx.Request]]

CALL = {
    "key": "payment:o-1", "kind": "charge", "state": "UNKNOWN", "amount": 1000, "currency": "KRW",
    "reference": None, "quarantine": None, "sends": 2, "attempt": 3, "owner": None,
    "firstSentAt": "2026-01-31T09:00:00.000Z", "expiresAt": "2026-01-31T09:00:10.000Z",
    "nextAt": "2026-01-31T09:05:00.000Z", "createdAt": "2026-01-31T08:59:59.000Z",
}  # fmt: skip
REFUND = CALL | {
    "key": "refund:o-1", "kind": "refund", "state": "WAITING", "sends": 0, "firstSentAt": None,
    "nextAt": None,
}  # fmt: skip
PAYMENT = {
    "orderId": "o-1", "state": "CANCELLING", "userId": "ann\x1b[2J", "amount": 1200,
    "currency": "KRW", "method": "gateway", "points": 200, "captured": 0, "refunded": 0,
    "refusal": None, "isLate": False, "createdAt": "2026-01-31T08:59:59.000Z",
    "calls": [CALL, REFUND],
}  # fmt: skip
ENTRY = {
    "transaction": "hold:o-1", "account": "points:ann", "amount": -200, "currency": "KRW",
    "at": "2026-01-31T08:59:59.000Z",
}  # fmt: skip
HELD = CALL | {"state": "QUARANTINED", "quarantine": "1300 KRW was captured", "nextAt": None}
TOMBSTONE = PAYMENT | {
    "orderId": "o-2", "state": "TOMBSTONE", "userId": None, "amount": None, "currency": None,
    "method": None, "points": None, "calls": [],
}  # fmt: skip


def invoke(*arguments: str) -> tuple[int, str, str]:
    environment = {"ADMIN_URL_PAYMENT_0": "http://payment", "COLUMNS": "120"}
    result = CliRunner().invoke(app, ["payment", *arguments], env=environment)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Port:
    """Lets payment's admin port answer by a function, and returns what it was asked."""

    def start(reply: Callable[[httpx.Request], tuple[int, Any]]) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            status, body = reply(request)
            return httpx.Response(status, json=body)

        transport = httpx.MockTransport(handle)
        monkeypatch.setattr(payment_commands, "PaymentApi", lambda url: PaymentApi(url, transport))
        return asked

    return start


def test_the_closed_lists_are_those_of_payment() -> None:
    assert set(payment_text.FINAL) == set(CLOSED)
    assert payment_text.RUNBOOK == describing.RUNBOOK


def test_show_tells_all_of_a_payment(port: Port) -> None:
    document = PAYMENT | {"entries": [ENTRY]}
    asked = port(lambda _: (200, document))
    code, said, _ = invoke("show", "o-1")
    assert code == 0
    assert str(asked[0].url) == "http://payment/payments/o-1"
    assert "\x1b" not in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for line in (
        "amount 1,200 KRW", "in points 200", "charge UNKNOWN", "amount 1,000 KRW",
        "sent 2 times, first 2026-01-31 09:00:00", "asked next 2026-01-31 09:05:00",
        "refund WAITING", "sent never",
        "2026-01-31 08:59:59 hold:o-1 points:ann -200 KRW",
    ):  # fmt: skip
        assert line in lines, said
    assert "What to do: nothing, while the gateway is away" in said
    assert json.loads(invoke("show", "o-1", "--json")[1]) == document


def test_show_says_what_to_do_where_a_person_has_to_look(port: Port) -> None:
    port(lambda _: (200, PAYMENT | {"calls": [HELD], "entries": []}))
    said = " ".join(invoke("show", "o-1")[1].split())
    assert "needs a person: 1300 KRW was captured" in said
    assert "`orderctl payment reconcile --order o-1`" in said
    assert "`orderctl payment close o-1 --note WHAT-YOU-DID`" in said
    assert "`orderctl payment ask o-1`; docs/runbooks/gateway-differs.md" in said


def test_show_tells_who_closed_a_payment(port: Port) -> None:
    closed = {"by": "bob", "note": "gave \x1b[2J1,300 back", "at": "2026-01-31T09:30:00.000Z"}
    document = PAYMENT | {"calls": [CALL | {"state": "DECLINED", "closed": closed}], "entries": []}
    port(lambda _: (200, document))
    said = invoke("show", "o-1")[1]
    assert "\x1b" not in said
    assert "closed by bob, 2026-01-31 09:30:00: gave \\x1b[2J1,300 back" in " ".join(said.split())


def test_show_bears_a_tombstone_of_nothing(port: Port) -> None:
    port(lambda _: (200, TOMBSTONE | {"entries": []}))
    code, said, _ = invoke("show", "o-2")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert (code, lines) == (
        0, ["order o-2", "state TOMBSTONE", "since 2026-01-31 08:59:59 UTC"],
    )  # fmt: skip


def test_open_payments_are_listed_with_the_oldest_first(port: Port) -> None:
    done = CALL | {"state": "SUCCEEDED", "createdAt": "2026-01-01T00:00:00.000Z"}
    payments = [PAYMENT | {"calls": [done, REFUND]}, TOMBSTONE]
    asked = port(lambda _: (200, {"payments": payments, "next": None}))
    code, said, noted = invoke("list", "--open", "--limit", "2")
    assert code == 0
    assert dict(asked[0].url.params) == {"limit": "2", "open": "true", "oldest": "true"}
    first, second = (" ".join(line.split()) for line in said.splitlines()[1:])
    assert first == "o-1 CANCELLING 1,200 KRW gateway refund WAITING 2026-01-31 08:59:59"
    assert second == "o-2 TOMBSTONE 2026-01-31 08:59:59"
    assert noted == "orderctl: there may be more than 2: say --limit\n"


def test_a_list_says_how_to_go_on(port: Port) -> None:
    asked = port(lambda _: (200, {"payments": [PAYMENT], "next": "o-1"}))
    code, _, noted = invoke("list", "--state", "CANCELLING", "--after", "o-0", "--limit", "1")
    assert (code, noted) == (0, "orderctl: --after o-1 goes on\n")
    assert dict(asked[0].url.params) == {"limit": "1", "state": "CANCELLING", "after": "o-0"}


@pytest.mark.parametrize(
    ("options", "said"), [([], "no payment is found\n"), (["--open"], "no payment is open\n")]
)
def test_an_empty_list_says_so(port: Port, options: list[str], said: str) -> None:
    port(lambda _: (200, {"payments": [], "next": None}))
    assert invoke("list", *options) == (0, said, "")


def ask_all(request: httpx.Request) -> tuple[int, Any]:
    """Of o-2 there is nothing to ask."""
    order = request.url.path.split("/")[2]
    if order == "o-2":
        return 409, {"title": "Nothing to ask", "detail": "o-2: the charge is SUCCEEDED"}
    return 202, {"orderId": order, "calls": [CALL]}


def test_each_order_is_asked_about_once_and_a_refusal_stops_nobody(port: Port) -> None:
    asked = port(ask_all)
    code, said, noted = invoke("ask", "o-1", "o-2", "o-1", "o-3")
    assert code == 1
    assert [(one.method, one.url.path) for one in asked] == [
        ("POST", f"/payments/{order}/ask") for order in ("o-1", "o-2", "o-3")
    ]
    assert said == (
        "o-1: the gateway is asked about the charge, UNKNOWN\n"
        "o-3: the gateway is asked about the charge, UNKNOWN\n"
    )
    assert noted == "orderctl: Nothing to ask: o-2: the charge is SUCCEEDED\n"
    code, said, _ = invoke("ask", "o-1", "--json")
    assert (code, json.loads(said)) == (0, [{"orderId": "o-1", "calls": [CALL]}])


def close_all(request: httpx.Request) -> tuple[int, Any]:
    """Of o-2 there is nothing to close."""
    order = request.url.path.split("/")[2]
    if order == "o-2":
        return 409, {"title": "Nothing to close", "detail": "o-2: the charge is SUCCEEDED"}
    calls = [CALL | {"state": "DECLINED"}]
    return 200, PAYMENT | {"orderId": order, "state": "REFUSED", "calls": calls, "entries": []}


def test_each_order_is_closed_once_with_who_and_why(port: Port) -> None:
    asked = port(close_all)
    words = ("--note", "gave it back", "--operator", "bob")
    code, said, noted = invoke("close", "o-1", "o-2", "o-1", "o-3", *words)
    assert code == 1
    assert [(one.method, one.url.path) for one in asked] == [
        ("POST", f"/payments/{order}/close") for order in ("o-1", "o-2", "o-3")
    ]
    body = {"operator": "bob", "note": "gave it back"}
    assert [json.loads(one.content) for one in asked] == [body] * 3
    assert said == "o-1: REFUSED, the charge is DECLINED\no-3: REFUSED, the charge is DECLINED\n"
    assert noted == "orderctl: Nothing to close: o-2: the charge is SUCCEEDED\n"
    code, said, _ = invoke("close", "o-1", "--json", *words)
    assert (code, [one["state"] for one in json.loads(said)]) == (0, ["REFUSED"])


def test_a_service_that_is_away_is_not_asked_again(port: Port) -> None:
    asked = port(lambda _: (503, {"title": "Unavailable", "detail": "the database doesn't answer"}))
    code, said, noted = invoke("ask", "o-1", "o-2")
    assert (code, said, len(asked)) == (1, "", 1)
    assert noted == "orderctl: Unavailable: the database doesn't answer\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "a b"],
        ["ask"],
        ["ask", "o-1", "a b"],
        ["close", "o-1"],
        ["close", "--note", "why"],
        ["close", "a b", "--note", "why"],
        ["list", "--state", "PAID"],
        ["list", "--limit", "0"],
        ["list", "--after", "a b"],
        ["list", "--open", "--after", "o-1"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_asks_nobody(port: Port, arguments: list[str]) -> None:
    asked = port(lambda _: (200, {}))
    code, said, noted = invoke(*arguments)
    assert (code, said, asked) == (2, "", [])
    assert noted
