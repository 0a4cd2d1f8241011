"""What changed, and what only seems to have."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bench.compare import BETTER, NO_DIFFERENCE, TOO_FEW, WORSE, Change, compare
from bench.figures import Spread, figures
from bench.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.record import Record

    MakeRecord = Callable[..., Record]


def verdicts(before: Record, after: Record) -> dict[str, str]:
    return {change.after.key: change.verdict for change in compare(before, after).changes}


def test_a_run_does_not_differ_from_itself(make_record: MakeRecord) -> None:
    assert set(verdicts(make_record(), make_record()).values()) == {NO_DIFFERENCE}


def test_faster_is_better_for_rates_and_worse_for_times(make_record: MakeRecord) -> None:
    before = make_record()
    more = make_record(drained=(2000.0, 2010.0, 1990.0), latency_ms=(60, 61, 59))
    found = verdicts(before, more)
    assert found["drain.per_second"] == BETTER
    assert found["rate-200.p50"] == WORSE
    assert found["drain.wal"] == NO_DIFFERENCE
    back = verdicts(more, before)
    assert back["drain.per_second"] == WORSE
    assert back["rate-200.p50"] == BETTER


def test_spreads_that_overlap_are_no_difference(make_record: MakeRecord) -> None:
    before = make_record(drained=(900.0, 1000.0, 1100.0))
    after = make_record(drained=(1000.0, 1100.0, 1200.0))
    assert verdicts(before, after)["drain.per_second"] == NO_DIFFERENCE


def test_a_faster_machine_is_no_faster_system(make_record: MakeRecord) -> None:
    before = make_record()
    after = make_record(drained=(2000.0, 2010.0, 1990.0), pgbench=(10_000.0, 10_000.0))
    change = compare(before, after).changes[0]
    assert change.measured.median == pytest.approx(2.0)
    assert change.beside_machine.median == pytest.approx(1.0)
    assert change.verdict == NO_DIFFERENCE


def test_a_yardstick_alone_makes_no_difference_on_one_machine(make_record: MakeRecord) -> None:
    before, after = make_record(), make_record(pgbench=(2500.0, 2500.0))
    assert verdicts(before, after)["drain.per_second"] == NO_DIFFERENCE
    other = make_record().machine.model_copy(update={"processor": "another"})
    elsewhere = make_record(pgbench=(2500.0, 2500.0), machine=other)
    assert verdicts(before, elsewhere)["drain.per_second"] == BETTER
    assert any("different machines" in one for one in compare(before, elsewhere).remarks)


def test_what_rose_as_measured_and_fell_beside_the_machine_is_neither(
    make_record: MakeRecord,
) -> None:
    """Both sides must lie apart, and to the same side."""
    after = make_record(drained=(1500.0, 1510.0, 1490.0), pgbench=(10_000.0, 10_000.0))
    change = compare(make_record(), after).changes[0]
    assert (change.measured.median > 1.4, change.beside_machine.median < 0.8) == (True, True)
    assert change.verdict == NO_DIFFERENCE


def test_a_yardstick_that_was_read_too_seldom_says_nothing(make_record: MakeRecord) -> None:
    figure = figures(make_record())[0]
    known, unknown = Spread(2.0, 1.9, 2.1), Spread(2.0, None, None)
    for measured, beside in ((known, unknown), (unknown, known)):
        change = Change(figure, figure, measured, beside, same_machine=True)
        assert change.verdict == TOO_FEW


def test_a_machine_that_drifts_widens_what_is_said(make_record: MakeRecord) -> None:
    after = make_record(drained=(1300.0, 1310.0, 1290.0), pgbench=(3500.0, 7000.0))
    assert verdicts(make_record(), after)["drain.per_second"] == NO_DIFFERENCE


def test_two_repeats_say_nothing(make_record: MakeRecord) -> None:
    few = make_record(drained=(1000.0, 1001.0))
    assert verdicts(make_record(), few)["drain.per_second"] == TOO_FEW


def test_runs_of_other_sizes_are_told_apart(make_record: MakeRecord) -> None:
    other = make_record(plan=Plan(rates=(500,), orders=50))
    remarks = compare(make_record(), other).remarks
    assert "the runs differ in orders" in remarks
    assert any("rates" in one for one in remarks)


def test_two_runs_of_one_system_rarely_seem_to_differ(make_record: MakeRecord) -> None:
    chance = random.Random(7)

    def run() -> Record:
        return make_record(drained=[chance.lognormvariate(7.0, 0.1) for _ in range(3)])

    seen = [verdicts(run(), run())["drain.per_second"] for _ in range(300)]
    assert seen.count(NO_DIFFERENCE) > 290
