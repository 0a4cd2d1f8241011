"""Reports and files of invariants, without a database."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from shared.audit.invariants import InvariantFileError, load
from shared.audit.report import Check, Moment, Report

if TYPE_CHECKING:
    from pathlib import Path

HOLDS = Check("units_are_conserved", "stock", 1, Moment.ALWAYS, "units are conserved")
VIOLATED = Check(
    "lag_is_zero", "stock", 9, Moment.AT_REST, "consumer lag is 0", violations=({"lag": 3},)
)
UNCHECKED = Check("ledger", "payment", 4, Moment.ALWAYS, "sums to zero", error="no such table")


def test_it_is_ok_only_if_everything_was_looked_at_and_holds() -> None:
    assert Report((HOLDS,)).ok
    assert not Report((HOLDS, VIOLATED)).ok
    assert not Report((HOLDS, UNCHECKED)).ok


def test_an_audit_that_looked_at_nothing_proves_nothing() -> None:
    assert not Report().ok
    with pytest.raises(AssertionError, match="nothing was checked"):
        Report().require()


def test_require_shows_what_is_violated() -> None:
    Report((HOLDS,)).require()
    with pytest.raises(AssertionError) as failure:
        (Report((HOLDS,)) + Report((VIOLATED, UNCHECKED))).require()
    text = str(failure.value)
    assert "1 VIOLATED" in text
    assert "lag=3" in text
    assert "no such table" in text
    assert "3 checks, 2 violated" in text


def test_json_has_every_check() -> None:
    parsed = json.loads(Report((HOLDS, VIOLATED)).to_json())
    assert parsed["ok"] is False
    assert [check["ok"] for check in parsed["checks"]] == [True, False]
    assert parsed["checks"][1]["violations"] == [{"lag": 3}]


def write(folder: Path, sql: str) -> str:
    package = folder / f"invariants_{secrets.token_hex(4)}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "invariants.sql").write_text(sql)
    return package.name


def test_the_comment_says_number_moment_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = write(
        tmp_path,
        "-- name: a\n-- Invariant 12, always: one thing,\n-- and another.\nSELECT 1;\n\n"
        "-- name: b\n-- Invariant 3, at rest: no more.\nSELECT 2;\n",
    )
    first, second = sorted(load(name, "invariants.sql"), key=lambda one: one.name)
    assert (first.number, first.moment, first.text) == (
        12,
        Moment.ALWAYS,
        "one thing, and another.",
    )
    assert (second.number, second.moment, second.sql) == (3, Moment.AT_REST, "SELECT 2;")


@pytest.mark.parametrize(
    "comment", ["", "-- always: x\n", "-- Invariant 1: x\n", "-- Invariant 1, sometimes: x\n"]
)
def test_a_query_that_does_not_say_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comment: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = write(tmp_path, f"-- name: a\n{comment}SELECT 1;\n")
    with pytest.raises(InvariantFileError, match="must read"):
        load(name, "invariants.sql")


def test_the_comment_says_what_passes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = write(
        tmp_path,
        "-- name: a\n-- Invariant 1, always: one.\n-- In passes: by order, of saga,\n"
        "-- saga_history.\nSELECT 1;\n\n"
        "-- name: b\n-- Invariant 1, always: two.\n"
        "-- In passes: left out, it is dear.\nSELECT 2;\n",
    )
    first, second = sorted(load(name, "invariants.sql"), key=lambda one: one.name)
    assert (first.text, first.by_order, first.left_out) == ("one.", ("saga", "saga_history"), False)
    assert (second.text, second.by_order, second.left_out) == ("two.", (), True)


def test_what_begins_with_with_cannot_be_narrowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    comment = "-- Invariant 1, always: one.\n-- In passes: by order, of saga."
    name = write(tmp_path, f"-- name: a\n{comment}\nWITH x AS (SELECT 1) SELECT * FROM x;\n")
    with pytest.raises(InvariantFileError, match="can't be narrowed"):
        load(name, "invariants.sql")


def test_long_values_are_cut_off() -> None:
    long = Check("a", "b", 1, Moment.ALWAYS, "c", violations=({"lines": "x" * 9_999, "n": 1},))
    (check,) = json.loads(Report((long,)).to_json())["checks"]
    assert len(check["violations"][0]["lines"]) < 1_100
    assert check["violations"][0]["n"] == 1


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(InvariantFileError, match="brings no"):
        load("shared", "sql/nothing.sql")
    with pytest.raises(InvariantFileError, match="brings no"):
        load("no_such_package", "sql/invariants.sql")
