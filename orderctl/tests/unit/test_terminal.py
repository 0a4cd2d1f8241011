"""What a terminal is given: visible, in one form whatever command writes it."""

from __future__ import annotations

import pytest

from orderctl.terminal import date_of, short_time, time_of_day, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("주문 o-1, ₩1,000: ok 😀", "주문 o-1, ₩1,000: ok 😀"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b2J\x7f\x00", "\\x9b2J\\x7f\\x00"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\u202e\u2066\u200f\u061c", "\\u202e\\u2066\\u200f\\u061c"),
        ("\u200b\ufeff\u00ad\u00a0", "\\u200b\\ufeff\\xad\\xa0"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_printable_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_what_is_to_be_kept_is_kept() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_times_are_short_and_what_is_none_stays_as_it_is() -> None:
    moment = "2026-01-31T09:00:00.123Z"
    assert short_time(moment) == "2026-01-31 09:00:00"
    assert date_of(moment) == "2026-01-31"
    assert time_of_day(moment, "2026-01-31") == "09:00:00.123"
    assert time_of_day(moment, "2026-01-30") == "2026-01-31 09:00:00.123"
    for odd in ("", "soon", "2026-01-31", "2026-01-31T09:00:00+09:00"):
        assert (short_time(odd), time_of_day(odd, ""), date_of(odd)) == (odd, odd, "")
    assert (short_time(None), date_of(None)) == ("", "")
