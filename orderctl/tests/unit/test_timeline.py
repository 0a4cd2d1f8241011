"""The timeline of one order, and what is said to do about it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from orderctl.advice import what_to_do
from orderctl.terminal import duration
from orderctl.timeline import FIRST_LINES, LAST_LINES, timeline


def entry(version: int, at: str, **fields: Any) -> dict[str, Any]:
    empty = {"note": None, "commands": None, "events": None}
    return {"version": version, "state": "RESERVING", "cause": "TimerFired", "at": at} | (
        empty | fields
    )


def printed(order: dict[str, Any], *, blocks: bool = True) -> list[str]:
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        for line in timeline(order, blocks=blocks):
            console.print(line)
    return [line.rstrip() for line in captured.get().splitlines()]


ORDER = {
    "state": "COMPENSATING",
    "askedAt": "2026-11-22T20:00:20.000Z",
    "history": [
        entry(1, "2026-11-22T20:00:00.000Z", cause="PlaceOrder", commands=["reserve:do"],
              events=["OrderAccepted"]),
        entry(2, "2026-11-22T20:00:05.000Z", commands=["reserve:do"], events=[], note="again"),
        entry(3, "2026-11-22T20:00:10.000Z", state="COMPENSATING"),
    ],
}  # fmt: skip


def test_each_transition_has_its_offset_its_duration_and_what_it_wrote() -> None:
    lines = printed(ORDER)
    assert lines[1].split() == [
        "1", "20:00:00.000", "+0", "ms", "5.0", "s", "███", "RESERVING", "PlaceOrder",
    ]  # fmt: skip
    assert lines[2] == "     sent reserve:do; told OrderAccepted"
    assert lines[3].split()[1:4] == ["20:00:05.000", "+5.0", "s"]
    assert lines[4] == "     sent reserve:do; again"
    assert lines[5].split() == [
        "3", "20:00:10.000", "+10.0", "s", "10.0", "s", "██████", "COMPENSATING", "TimerFired",
    ]  # fmt: skip
    assert len(lines) == 6, "nothing is said where nothing is known"
    assert max(map(len, lines)) <= 80


def test_an_order_that_has_ended_lasts_no_longer() -> None:
    assert "10.0 s" not in printed(ORDER | {"state": "REJECTED"})[5].replace("+10.0 s", "")


def test_a_terminal_without_blocks_gets_a_bar_too() -> None:
    lines = printed(ORDER, blocks=False)
    assert all(line.isascii() for line in lines)
    assert "######" in lines[5]


def test_the_middle_of_a_long_history_is_left_out() -> None:
    history = [entry(number, "2026-11-22T20:00:00.000Z") for number in range(1, 1_001)]
    lines = printed({"state": "RESERVING", "history": history})
    assert len(lines) == FIRST_LINES + LAST_LINES + 2
    assert "800 lines are left out" in lines[FIRST_LINES + 1]
    assert lines[-1].startswith("1000 ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (-1, "0 ms"), (0.0123, "12 ms"), (3.44, "3.4 s"), (61, "1m 1s"),
        (7_260, "2h 1m"), (200_000, "2d 7h"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


RELEASE = {"commandId": "o-1:reserve:undo", "type": "ReleaseStock", "topic": "stock.commands.v1"}
REFUND = {"commandId": "o-1:charge:undo", "type": "RefundPayment", "topic": "payment.commands.v1"}


def stuck(why: str, **fields: Any) -> str:
    order = {"orderId": "o-1", "state": "COMPENSATING", "stuck": {"since": "then", "why": why}}
    known = {"waitsFor": [RELEASE], "settleAs": ["REJECTED", "CANCELLED"]}
    return "\n".join(what_to_do(order | known | fields))


def test_a_stuck_order_tells_who_is_silent_and_what_to_call() -> None:
    said = stuck("unanswered after 10 sends")
    assert "why stock doesn't answer" in said
    assert "orderctl retry o-1 --note" in said
    assert "orderctl settle o-1 --outcome REJECTED --note" in said
    assert "orderctl cancel" not in said
    assert "orderctl dlq list" in stuck("reserve is a dead letter: invalid")
    assert "contradicts" in stuck("2 of P001 were reserved")
    forward = stuck("reserve is a dead letter: invalid", state="CHARGING")
    assert "orderctl cancel o-1 --note" in forward
    past_pivot = stuck("unanswered after 10 sends", state="COMPLETING", settleAs=["CONFIRMED"])
    assert "--outcome CONFIRMED" in past_pivot
    assert "REJECTED" not in past_pivot


def test_an_order_that_is_not_stuck_needs_nothing() -> None:
    assert what_to_do({"state": "CONFIRMED", "waitsFor": []}) == []
    assert "PayOrder" in what_to_do({"state": "AWAITING_PAYMENT"})[0]
    assert "by itself" in what_to_do({"state": "PENDING"})[0]
    assert "by itself" in what_to_do({"state": "RESERVING", "waitsFor": [RELEASE]})[0]
    asked = {"ordered": {"payment": {"method": "gateway"}}, "waitsFor": [RELEASE, REFUND]}
    advice = " ".join(what_to_do({"orderId": "o-1", "state": "COMPENSATING"} | asked))
    assert "what became of the charge" in advice
    assert "waits for a person: `orderctl payment show o-1` tells" in advice
    for other in ({"waitsFor": [RELEASE]}, {"ordered": {"payment": {"method": "wallet"}}}):
        told = what_to_do({"state": "COMPENSATING"} | asked | other)
        assert told == ["Nothing yet: what is unanswered is sent again by itself."]
    assert "newer code" in what_to_do({"state": "RESERVING", "unreadable": "steps"})[0]
