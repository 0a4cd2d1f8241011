"""What is asked for wrongly is said in one line, before anything starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bench.__main__ import main
from bench.bus import Answer
from bench.errors import BenchError
from bench.phases import binned, expect, per_second
from bench.record import load, save
from bench.stage import check_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.record import Record

    MakeRecord = Callable[..., Record]


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
    return main()


def test_a_record_is_read_as_it_was_written(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    save(make_record(), path)
    assert load(path) == make_record()


def test_compare_prints_and_draws(
    make_record: MakeRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(make_record(), tmp_path / "a.json")
    save(make_record(drained=(2000.0, 2010.0, 1990.0)), tmp_path / "b.json")
    page = tmp_path / "c.html"
    code = called(
        monkeypatch, "compare", tmp_path / "a.json", tmp_path / "b.json", "--page", page
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "better" in printed
    assert "no difference" in printed
    assert "<svg" in page.read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read"),
        ("{", "does not hold the figures of a run"),
        ('{"format": 2}', "does not hold the figures of a run"),
    ],
)
def test_a_baseline_that_is_none_is_said_before_anything_starts(
    content: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    baseline, state = tmp_path / "a.json", tmp_path / "state"
    if content is not None:
        baseline.write_text(content)
    assert called(monkeypatch, "run", "--baseline", baseline, "--state", state) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert not state.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--orders", 0), "orders: Input should be greater than or equal to 10"),
        (("run", "--rates", "0"), "rates"),
        (("run", "--repeats", 0), "repeats"),
        (("stock", "--commands", 1), "commands"),
        (("coupon", "--users", 1), "users"),
        (("coupon", "--users", 50, "--coupons", 50), "coupons: Value error, there must be fewer"),
    ],
)
def test_a_size_that_can_not_be_is_refused(
    arguments: tuple[object, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert called(monkeypatch, *arguments, "--state", tmp_path / "state") == 1
    assert said in capsys.readouterr().err


def test_too_little_disk_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="make room, or take another disk with --state"):
        check_disk(tmp_path / "not" / "there", needed_bytes=10**18)
    check_disk(tmp_path, needed_bytes=1)


def test_figures_of_other_work_are_none() -> None:
    answers = [Answer("OrderConfirmed", "o-1", 1), Answer("OrderRejected", "o-2", 2)]
    with pytest.raises(BenchError, match=r"expected were 2 OrderConfirmed, .*1 OrderRejected"):
        expect(answers, {"OrderConfirmed": 2})
    with pytest.raises(BenchError, match="expected were"):
        expect(answers, {"OrderConfirmed": 2, "OrderRejected": 1})
    expect(answers, {"OrderConfirmed": 1, "OrderRejected": 1})


def test_a_rate_runs_from_the_first_answer_to_the_last() -> None:
    assert per_second([1_000, 1_500, 2_000]) == pytest.approx(2.0)
    assert per_second([1_000, 1_000]) == pytest.approx(1_000.0), "one more within a millisecond"


def test_bins_are_half_seconds_from_the_first_answer_on() -> None:
    assert binned([1_200, 1_300, 1_699, 1_700, 2_900]) == [3, 1, 0, 1]
