"""`orderctl list`: what it asks for, how far it looks, and what it says of many orders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from order_orchestrator.domain import ENDED as ENDED_SAGAS
from order_orchestrator.domain import SagaState
from orderctl.asking import ENDED, State
from orderctl.list_command import LOOKS_AT_MOST
from orderctl.main import app

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

SINCE = "2026-11-22T20:31:05.123Z"
GROUP = {
    "state": "COMPENSATING", "why": "unanswered after 10 sends", "steps": "reserve:undo",
    "orders": 3_000, "since": SINCE, "until": SINCE, "example": "o-1",
}  # fmt: skip
NONE = {"orders": [], "next": None, "counts": None}


def order(order_id: str, **fields: Any) -> dict[str, Any]:
    empty = {"userId": "user_1", "reason": None, "why": None, "since": None, "toldAt": None}
    return {"orderId": order_id, "state": "REJECTED", "acceptedAt": SINCE} | empty | fields


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["list", *arguments, "--url", "http://orchestrator"])
    return result.exit_code, result.stdout, result.stderr


def test_the_states_are_the_sagas() -> None:
    assert {state.value for state in State} == {state.value for state in SagaState}
    assert {state.value for state in ENDED} == {state.value for state in ENDED_SAGAS}


def test_thousands_that_are_stuck_alike_are_one_line(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    asked = answers(200, {"groups": [GROUP], "more": False})
    code, said, _ = invoke("--stuck")
    assert code == 0
    assert asked[0].url.path == "/search/stuck-groups"
    for text in ("3,000", "COMPENSATING", "2026-11-22 20:31:05", "orderctl show o-1"):
        assert text in said
    assert len(said.splitlines()) <= 6
    assert invoke() == invoke("--stuck"), "the default list"


def test_nothing_stuck_is_said(answers: Callable[..., list[httpx.Request]]) -> None:
    answers(200, {"groups": [], "more": False})
    assert invoke() == (0, "no order is stuck\n", "")
    answers(200, NONE)
    assert invoke("--all") == (0, "no order is stuck\n", "")


def test_all_lists_each_of_the_stuck_longest_first(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    counts = [{"state": "CHARGING", "why": "no answer", "orders": 7}]
    stuck = order("o-1", state="CHARGING", why="no answer", since=SINCE)
    asked = answers(200, {"orders": [stuck], "next": "1:o-1", "counts": counts})
    code, said, noted = invoke("--stuck", "--all", "--limit", "1")
    assert code == 0
    assert dict(asked[0].url.params) == {"scope": "stuck", "newest_first": "false", "limit": "1"}
    assert "1 of 7 orders" in said
    assert "no answer" in said
    assert noted == "orderctl: --cursor 1:o-1 goes on\n"


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        (["--state", "charging", "--state", "PENDING"],
         {"scope": "under_way", "states": "CHARGING,PENDING"}),
        (["--state", "CHARGING", "--state", "REJECTED"],
         {"scope": "all", "states": "CHARGING,REJECTED"}),
        (["--under-way", "--older-than", "5m"], {"scope": "under_way", "older_than_s": "300"}),
        (["--user", "user_1", "--oldest"], {"scope": "all", "user": "user_1",
                                            "newest_first": "false"}),
        (["--reason", "out_of"], {"scope": "all", "reason": "out_of"}),
        (["--newest"], {"scope": "all", "newest_first": "true"}),
        (["--stuck", "--all", "--user", "u", "--cursor", "5:o-9"],
         {"scope": "stuck", "user": "u", "cursor": "5:o-9"}),
    ],
    ids=str,
)  # fmt: skip
def test_the_options_say_what_is_asked(
    answers: Callable[..., list[httpx.Request]], options: list[str], asks: dict[str, str]
) -> None:
    asked = answers(200, NONE)
    assert invoke(*options)[0] == 0
    params = dict(asked[0].url.params)
    assert asks.items() <= params.items()
    assert params.keys() <= asks.keys() | {"limit", "newest_first"}


def test_it_looks_further_until_enough_are_found(
    serve: Callable[..., list[httpx.Request]],
) -> None:
    def reply(request: httpx.Request) -> tuple[int, Any]:
        number = len(asked)
        return 200, {
            "orders": [order(f"o-{number}", reason="out_of_stock")],
            "next": f"{number}:o",
            "lookedTo": SINCE,
            "counts": None,
        }

    asked: list[httpx.Request] = []
    asked = serve(lambda request: reply(request))
    code, said, noted = invoke("--reason", "stock", "--limit", "3")
    assert code == 0
    assert [request.url.params.get("cursor") for request in asked] == [None, "1:o", "2:o"]
    assert [request.url.params["limit"] for request in asked] == ["3", "2", "1"]
    assert "3  REJECTED  out_of_stock" in said
    assert noted == "orderctl: looked through to 2026-11-22 20:31:05; --cursor 3:o goes on\n"


def test_it_gives_up_in_time_and_says_how_far_it_came(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    asked = answers(200, NONE | {"next": "9:o", "lookedTo": SINCE})
    code, said, noted = invoke("--user", "nobody")
    assert (code, said, len(asked)) == (0, "no such order is found\n", LOOKS_AT_MOST)
    assert noted == "orderctl: looked through to 2026-11-22 20:31:05; --cursor 9:o goes on\n"


def test_json_has_the_cursor_and_all_that_was_found(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    answers(200, NONE | {"orders": [order("o-1")]})
    assert json.loads(invoke("--newest", "--json")[1]) == NONE | {"orders": [order("o-1")]}
    answers(200, {"groups": [GROUP], "more": False})
    assert json.loads(invoke("--json")[1]) == {"groups": [GROUP], "more": False}


@pytest.mark.parametrize(
    "options",
    [
        ["--older-than", "5"], ["--older-than", "x"], ["--state", "LOST"], ["--limit", "0"],
        ["--stuck", "--under-way"], ["--newest", "--oldest"],
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_call_is_told_as_such(
    answers: Callable[..., list[httpx.Request]], options: list[str]
) -> None:
    asked = answers(200, NONE)
    assert (invoke(*options)[0], asked) == (2, [])


def test_a_search_that_is_given_up_says_what_helps(
    answers: Callable[..., list[httpx.Request]],
) -> None:
    answers(503, {"title": "Search given up", "detail": "it takes longer than 5 s"})
    told = invoke("--user", "u")
    assert told == (1, "", "orderctl: Search given up: it takes longer than 5 s\n")


def test_a_long_list_is_not_cut_off(answers: Callable[..., list[httpx.Request]]) -> None:
    long = order("o" * 64, state="AWAITING_PAYMENT", why="y" * 300, since=SINCE)
    answers(200, NONE | {"orders": [long]})
    said = invoke("--all")[1]
    assert max(map(len, said.splitlines())) <= 80
    assert "2026-11-22 20:31:05" in said
    assert "AWAITING_PAYMENT" in said
    assert said.count("…") == 0
    assert said.count("y") == 2 * 300 + 1  # in the list and in the counts, and one in the heading
