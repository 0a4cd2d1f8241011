"""F20: one order is mended, or several, or all that are stuck alike; each refusal is told."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orderctl.main import app

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

NAIVE = "2026-11-22T20:31:05"
GROUP = {
    "state": "COMPENSATING", "why": "no answer", "steps": "reserve:undo", "orders": 3,
    "since": "2026-11-22T20:31:05.123Z", "until": "then", "example": "o-1",
}  # fmt: skip


def invoke(*arguments: str) -> tuple[int, str, str]:
    common = ["--url", "http://orchestrator", "--operator", "ann"]
    result = CliRunner().invoke(app, [*arguments, *common])
    return result.exit_code, result.stdout, result.stderr


def since(number: int) -> str:
    return f"2026-11-22T20:31:0{number}.123Z"


def admin(request: httpx.Request) -> tuple[int, Any]:
    """Three orders are stuck; `no-…` are refused, `away-…` find the database gone."""
    path = request.url.path
    if path == "/search/stuck-groups":
        return 200, {"groups": [GROUP], "more": False}
    if path == "/search":
        after, limit = request.url.params.get("cursor"), int(request.url.params["limit"])
        before = request.url.params.get("stuck_before", "~")
        backwards = request.url.params.get("newest_first", "true") == "true"
        places = range(int(after or 4) - 1, 0, -1) if backwards else range(int(after or 0) + 1, 4)
        rest = [number for number in places if since(number) <= before][:limit]
        last = rest[-1] if rest and len(rest) == limit else None
        orders = [{"orderId": f"o-{number}", "since": since(number)} for number in rest]
        return 200, {"orders": orders, "next": last}
    order_id = path.split("/")[2]
    if order_id.startswith("no-"):
        return 409, {"title": "Refused", "detail": "the saga is not stuck"}
    if order_id.startswith("away-"):
        return 503, {"title": "Unavailable", "detail": "the database doesn't answer"}
    return 200, {"orderId": order_id, "state": "COMPENSATING"}


def posted(asked: list[httpx.Request]) -> list[str]:
    return [request.url.path for request in asked if request.method == "POST"]


def test_several_orders_go_on_past_a_refusal(serve: Callable[..., list[httpx.Request]]) -> None:
    asked = serve(admin)
    code, said, _ = invoke("retry", "o-1", "no-2", "o-3", "o-1", "--note", "why")
    assert code == 1
    assert sorted(posted(asked)) == [f"/sagas/{one}/retry" for one in ("no-2", "o-1", "o-3")]
    assert "no-2: Refused: the saga is not stuck" in said
    rows = [line.split()[:3] for line in said.splitlines()]
    assert ["2", "done", "COMPENSATING"] in rows
    assert ["1", "refused", "Refused:"] in rows
    for request in asked:
        assert json.loads(request.content) == {"operator": "ann", "note": "why"}


def test_several_orders_that_are_all_done(serve: Callable[..., list[httpx.Request]]) -> None:
    asked = serve(admin)
    assert invoke("settle", "o-1", "o-2", "--outcome", "REJECTED", "--note", "why")[0] == 0
    assert {json.loads(request.content)["outcome"] for request in asked} == {"REJECTED"}


@pytest.mark.parametrize("action", ["cancel", "retry", "settle"])
def test_all_stuck_only_tells_what_it_would_do(
    serve: Callable[..., list[httpx.Request]], action: str
) -> None:
    outcome = ["--outcome", "REJECTED"] if action == "settle" else []
    asked = serve(admin)
    options = ["--all-stuck", "--reason", "no", "--limit", "2", "--note", "why"]
    code, said, _ = invoke(action, *options, *outcome)
    assert (code, posted(asked)) == (0, [])
    assert {request.url.params["reason"] for request in asked} == {"no"}
    assert f"{action} would take 2 orders of 3" in said
    again = shlex.split(said.splitlines()[-1])
    assert again[again.index("--stuck-before") + 1] == since(2)
    assert set(options) < set(again), "the same command"
    code, said, _ = invoke(*again[again.index(action) :])
    assert code == 0
    assert sorted(posted(asked)) == [f"/sagas/o-{number}/{action}" for number in (1, 2)]


def test_what_got_stuck_after_the_preview_is_left_alone(
    serve: Callable[..., list[httpx.Request]],
) -> None:
    asked = serve(admin)
    options = ["--all-stuck", "--note", "why", "--stuck-before", "2026-11-22T21:31:01.123+01:00"]
    document = json.loads(invoke("retry", *options, "--json")[1])
    assert (document["orders"], document["stuckBefore"]) == (["o-1"], since(1))
    assert f" --stuck-before {since(1)} --yes " in document["command"]
    assert asked[-1].url.params["stuck_before"] == since(1)
    assert invoke("retry", *options, "--yes")[0] == 0
    assert posted(asked) == ["/sagas/o-1/retry"]


@pytest.mark.parametrize("more", [[], ["--stuck-before", "yesterday"], ["--stuck-before", NAIVE]])
def test_without_a_moment_nothing_is_done(
    serve: Callable[..., list[httpx.Request]], more: list[str]
) -> None:
    asked = serve(admin)
    code, said, noted = invoke("retry", "--all-stuck", "--note", "why", "--yes", *more)
    assert (code, said, asked) == (2, "", [])
    assert "--stuck-before" in noted or "is no moment" in noted


def test_ctrl_c_ends_it_between_two_orders_and_says_how_many_are_done(
    serve: Callable[..., list[httpx.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderctl.group_action.AT_ONCE", 2)

    def interrupting(request: httpx.Request) -> tuple[int, Any]:
        if request.url.path == "/sagas/o-4/retry":
            os.kill(os.getpid(), signal.SIGINT)
        return admin(request)

    asked = serve(interrupting)
    before = signal.getsignal(signal.SIGINT)
    orders = [f"o-{number}" for number in range(1, 8)]
    code, said, noted = invoke("retry", *orders, "--note", "why", "--json")
    assert code == 130
    assert len(posted(asked)) == 4, "what was under way is brought to its end"
    document = json.loads(said)
    assert (document["done"], document["notTried"]) == (4, ["o-5", "o-6", "o-7"])
    assert document["interrupted"] is True
    assert noted == (
        "orderctl: interrupted: 4 of 7 orders are done, 0 tried in vain, 3 were not tried\n"
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_one_order_is_asked_for_tells_what_became_of_it(
    serve: Callable[..., list[httpx.Request]],
) -> None:
    def interrupting(request: httpx.Request) -> tuple[int, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return admin(request)

    serve(interrupting)
    code, said, _ = invoke("retry", "o-1", "--note", "why", "--json")
    assert (code, json.loads(said)["state"]) == (130, "COMPENSATING")


def test_thousands_say_how_far_they_are(
    serve: Callable[..., list[httpx.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderctl.group_action.TOLD_EVERY", 20)
    serve(admin)
    orders = [f"o-{number}" for number in range(50)]
    _, _, noted = invoke("retry", *orders, "--note", "why")
    assert noted == "orderctl: 24 of 50\norderctl: 40 of 50\n"
    drawn = io.StringIO()
    monkeypatch.setattr(
        "orderctl.group_action.Console", lambda stderr: Console(file=drawn, force_terminal=stderr)
    )
    _, said, noted = invoke("retry", *orders, "--note", "why")
    assert ("100%" in drawn.getvalue(), noted) == (True, ""), "a bar on a terminal, no lines"
    assert said.split()[-3:] == ["50", "done", "COMPENSATING"]


def test_more_than_a_page_is_taken(
    serve: Callable[..., list[httpx.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderctl.act_commands.PAGE", 2)
    asked = serve(admin)
    before = ["--stuck-before", since(9)]
    code, said, _ = invoke("retry", "--all-stuck", "--note", "why", *before, "--yes", "--json")
    assert code == 0
    assert len(posted(asked)) == 3
    document = json.loads(said)
    assert (document["done"], document["refused"], document["notTried"]) == (3, 0, [])
    assert document["results"][0] == {
        "orderId": "o-1", "done": True, "state": "COMPENSATING", "problem": None,
    }  # fmt: skip


def test_where_nobody_answers_the_rest_is_left_alone(
    serve: Callable[..., list[httpx.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderctl.group_action.AT_ONCE", 1)
    asked = serve(admin)
    code, said, noted = invoke("retry", "o-1", "away-2", "o-3", "o-4", "--note", "why")
    assert code == 1
    assert posted(asked) == ["/sagas/o-1/retry", "/sagas/away-2/retry"]
    assert "the database doesn't answer" in said
    assert noted.startswith("orderctl: 2 orders were not tried: Unavailable")


@pytest.mark.parametrize(
    "arguments",
    [[], ["o-1", "--all-stuck"], ["o-1", "--yes"], ["o-1", "o-2", "--reason", "x"], ["o-1", "a b"]],
    ids=str,
)
def test_which_orders_must_be_clear(
    serve: Callable[..., list[httpx.Request]], arguments: list[str]
) -> None:
    asked = serve(admin)
    assert (invoke("retry", *arguments, "--note", "why")[0], asked) == (2, [])
    assert invoke("retry", *arguments)[0] == 2, "nor without a note"


def test_nothing_stuck_is_nothing_to_do(serve: Callable[..., list[httpx.Request]]) -> None:
    serve(lambda _: (200, {"orders": [], "next": None}))
    code, said, _ = invoke("retry", "--all-stuck", "--note", "why")
    assert (code, said) == (0, "no such order is stuck\n")
