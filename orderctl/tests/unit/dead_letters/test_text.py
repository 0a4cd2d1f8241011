"""What a terminal is given: bounded, safe, and true however many letters there are."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from orderctl.dead_letters.advice import advise
from orderctl.dead_letters.causes import CAUSES_AT_MOST, Causes
from orderctl.dead_letters.inboxes import Known
from orderctl.dead_letters.letter import Letter, Place
from orderctl.dead_letters.selection import Selection, parse_since
from orderctl.dead_letters.text import (
    CAUSES_SHOWN,
    LINE_CHARS,
    VALUE_CHARS,
    Found,
    causes_text,
    found_document,
    found_text,
    letter_document,
    letter_line,
    value_text,
)
from orderctl.main import app
from orderctl.terminal import visible

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def letter(number: int, reason: str = "invalid", value: bytes | None = b"{}") -> Letter:
    headers = {
        "dlq-reason": reason,
        "dlq-error": f"error {number}",
        "dlq-original-topic": "orders.commands.v1",
    }
    return Letter(Place("coupon.dlq.v1", 0, number), NOW_MS + number, b"o-1", value, headers)


def test_letters_are_counted_by_cause_with_first_last_and_the_latest() -> None:
    causes = Causes()
    for one in (letter(2), letter(3), letter(1), letter(9, "not_json", b"x")):
        causes.add(one)
    text = causes_text(causes, 9)
    assert text.startswith("4 dead letters of 2 causes")
    assert "3  orders.commands.v1  invalid  (no type)" in text
    (many, one) = causes.document()["causes"]
    assert (many["count"], one["count"]) == (3, 1)
    assert many["first"] == "2026-01-31T09:00:00.001Z"
    assert many["last"] == "2026-01-31T09:00:00.003Z"
    assert (many["example"], many["error"]) == ("coupon.dlq.v1/0/3", "error 3")


def test_causes_without_end_are_counted_and_not_kept() -> None:
    causes = Causes()
    total = CAUSES_AT_MOST * 20
    for number in range(total):
        causes.add(letter(number, f"reason{number}"))
    assert causes.letters == total
    assert len(causes.tallies) == CAUSES_AT_MOST + 1
    assert causes_text(causes, 9).count("\n\n") == CAUSES_SHOWN + 1
    assert causes.by_count()[-1][1].count == total - CAUSES_AT_MOST


def test_a_cause_of_the_contract_is_told_however_many_strange_ones_came_before() -> None:
    causes = Causes()
    for number in range(CAUSES_AT_MOST * 2):
        causes.add(letter(number, "invalid", b'{"type":"Odd%d"}' % number))
    for number in range(500):
        causes.add(letter(number, "too_late", b'{"type":"CancelOrder"}'))
    causes.add(letter(501, "someday"))
    found = {(cause.reason, cause.type): tally.count for cause, tally in causes.by_count()}
    assert found["too_late", "CancelOrder"] == 500
    assert found["invalid", "(further types)"] == CAUSES_AT_MOST
    assert found["", ""] == 1, "of the rest nothing is known"
    assert causes.letters == CAUSES_AT_MOST * 2 + 501


def test_a_letter_in_a_list_is_bounded_whatever_its_headers_hold() -> None:
    huge = "\x1b\U0001f600" * 500_000
    headers = {"dlq-reason": huge, "dlq-error": huge, "dlq-original-topic": huge}
    one = Letter(Place("coupon.dlq.v1", 0, 1), NOW_MS, b"\xff" * 1_000_000, b"{}", headers)
    document = letter_document(one)
    assert sum(len(str(value)) for value in document.values()) < 2_500
    assert document["error"].endswith("…")
    assert len(letter_line(document)) == LINE_CHARS
    causes = Causes()
    causes.add(one)
    assert max(map(len, causes_text(causes, 9).splitlines())) < 2 * LINE_CHARS
    assert one.size > 3_000_000


@pytest.mark.parametrize(
    ("selection", "takes"),
    [
        (Selection(reason="invalid"), True),
        (Selection(reason="other"), False),
        (Selection(type="PlaceOrder"), True),
        (Selection(type="PayOrder"), False),
        (Selection(origin="orders.commands.v1"), True),
        (Selection(origin="stock.commands.v1"), False),
        (Selection(order="o-1"), True),
        (Selection(order="o-2"), False),
        (Selection(since_ms=NOW_MS + 1), True),
        (Selection(since_ms=NOW_MS + 2), False),
        (Selection(reason="invalid", type="PayOrder"), False),
    ],
)
def test_a_selection_takes_what_fits_all_of_it(selection: Selection, takes: bool) -> None:
    assert selection.takes(letter(1, value=b'{"type":"PlaceOrder"}')) is takes
    assert selection.narrows


def test_times_are_ago_or_in_full() -> None:
    assert parse_since("90s", NOW) == NOW_MS - 90_000
    assert parse_since("2h", NOW) == NOW_MS - 7_200_000
    assert parse_since("999999d", NOW) == 0
    assert parse_since("2026-01-31T09:00:00Z", NOW) == NOW_MS
    assert parse_since("2026-01-31T10:00:00+01:00", NOW) == NOW_MS
    for wrong in ("yesterday", "2", "h", "-2h", "1w"):
        with pytest.raises(ValueError, match="is no time"):
            parse_since(wrong, NOW)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "(null)"),
        (b"", "(empty)"),
        (b'{"a":[1,2]}', '{\n  "a": [\n    1,\n    2\n  ]\n}'),
        (b'{"a":2.50}', '{"a":2.50}'),  # Python would show another number
        (b'{"a":1,"a":2}', '{"a":1,"a":2}'),  # in two ways: as it came
        (b"[" * 40 + b"]" * 40, "[" * 40 + "]" * 40),
        (b"9" * 5_000, "9" * VALUE_CHARS + "\n… and 1,000 characters more; --raw gives all"),
        (b"\xff\x00A", f"000000  {'ff 00 41':<47}  ..A"),
    ],
)
def test_values(value: bytes | None, expected: str) -> None:
    assert value_text(value) == expected


@pytest.mark.parametrize("content", [b"\xff" * 250_000, b"a" * 250_000, b"[1," * 80_000])
def test_a_long_value_is_cut(content: bytes) -> None:
    text = value_text(content)
    assert len(text) < VALUE_CHARS + 100
    assert "more" in text.splitlines()[-1]


def test_nothing_in_a_letter_steers_the_terminal() -> None:
    evil = "\x1b]0;x\x07\u202e\x9b31m"
    dead = letter(1, f"r{evil}", json.dumps({"type": "X", "a": evil}, ensure_ascii=False).encode())
    dead = Letter(
        dead.place, dead.at_ms, evil.encode(), dead.value,
        dead.headers | {f"h{evil}": evil, "dlq-error": f"first\nsecond{evil}", "traceparent": evil},
    )  # fmt: skip
    causes = Causes()
    causes.add(dead)
    found = Found(dead, advise(dead, Known.NOTHING), Known.NOTHING)
    for text in (found_text(found), causes_text(causes, 9)):
        shown = visible(text, keep="\n")
        assert not set(shown) & {"\x1b", "\x07", "\u202e", "\x9b"}
        assert "\nsecond" not in shown
    assert json.dumps(found_document(found)).isascii()


def test_show_tells_the_fields_of_the_contract() -> None:
    dead = letter(1, value=b'{"type":"PayOrder"}')
    text = found_text(Found(dead, advise(dead, Known.NOTHING), Known.NOTHING))
    assert "PayOrder with orderId, userId; optional: commandId, payment" in text
    assert "PlaceOrder with" not in text
    text = found_text(Found(letter(1), advise(dead, Known.NOTHING), Known.NOTHING))
    assert "PlaceOrder with" in text


def test_a_stuck_saga_is_told_with_what_helps() -> None:
    headers = {"dlq-reason": "invalid", "dlq-original-topic": "stock.commands.v1"}
    dead = Letter(Place("stock.dlq.v1", 0, 1), NOW_MS, b"o-1", b"{}", headers)
    saga = {"state": "RESERVING", "stuck": {"since": "then", "why": "reserve is a dead letter"}}
    text = found_text(Found(dead, advise(dead, Known.NOTHING), Known.NOTHING, {}, saga))
    assert "o-1: RESERVING, STUCK since then: reserve is a dead letter" in text
    assert "orderctl retry o-1 --note" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nowhere"), "'nowhere' is no place"),
        (("show", "orders.commands.v1/1/1"), "no topic of dead letters"),
        (("list", "--topic", "nowhere"), "no topic of dead letters"),
        (("list", "--since", "soon"), "'soon' is no time"),
        (("replay",), "name places, or a group"),
        (("replay", "stock.dlq.v1/1/1", "--reason", "x"), "either places or a group"),
        (("replay", "stock.dlq.v1/1/1", "--limit", "1"), "either places or a group"),
        (("replay", "--reason", "x", "--value", "-"), "--value goes with one place"),
        (("replay", "--reason", "x", "--yes", "--dry-run"), "give one of them"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_asked(
    arguments: tuple[str, ...], says: str
) -> None:
    result = CliRunner().invoke(app, ["dlq", *arguments, "--bootstrap-servers", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
