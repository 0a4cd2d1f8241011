"""Medians, spreads and ratios."""

from __future__ import annotations

import math
import random
import statistics
from typing import TYPE_CHECKING

import pytest

from bench.figures import Spread, count_figure, figures, plain_spread, spread
from bench.record import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.record import Record

    MakeRecord = Callable[..., Record]


def test_the_spread_holds_the_true_middle_in_19_of_20_runs() -> None:
    chance = random.Random(1)
    runs = 2_000
    for count in (3, 5, 10):
        held = 0
        for _ in range(runs):
            found = spread([chance.lognormvariate(5.0, 0.2) for _ in range(count)])
            assert found.low is not None
            assert found.high is not None
            held += found.low <= math.exp(5.0) <= found.high
        assert 0.93 < held / runs < 0.99, count


@pytest.mark.parametrize("values", [[5.0], [5.0, 6.0]])
def test_of_too_few_values_there_is_no_spread(values: list[float]) -> None:
    assert spread(values) == Spread(statistics.median(values), None, None)


def test_counts_may_be_none_at_all() -> None:
    assert plain_spread([0.0, 0.0, 0.0]) == Spread(0.0, 0.0, 0.0)
    found = plain_spread([-2.0, 0.0, 2.0])
    assert (found.median, found.low, found.high) == pytest.approx((0.0, -4.968, 4.968), abs=1e-3)
    assert plain_spread([1.0, 2.0]).low is None
    counted = count_figure("key", "title", "users", [0.0, 1.0, 5.0], most=6).spread
    assert (counted.median, counted.low, counted.high) == (1, 0, 6), "no less, and no more"


def test_equal_values_are_as_uncertain_as_the_clock() -> None:
    found = spread([20.0, 20.0, 20.0], 1.0)
    assert (found.median, found.low, found.high) == pytest.approx((20.0, 19.0, 21.0))


def test_a_ratio_is_as_wide_as_both() -> None:
    found = Spread(10.0, 8.0, 12.0).over(Spread(2.0, 1.0, 4.0))
    assert found == Spread(5.0, 2.0, 12.0)
    assert Spread(10.0, 8.0, 12.0).times(Spread(2.0, 1.0, 4.0)) == Spread(20.0, 8.0, 48.0)
    assert Spread(1.0, 0.0, 2.0).over(Spread(1.0, 0.0, 2.0)).high == float("inf")


def test_rates_and_times_stand_beside_the_machine(make_record: MakeRecord) -> None:
    record = make_record(
        drained=(1000.0, 1000.0, 1000.0),
        latency_ms=(20, 20, 20),
        limits=Limits(pgbench_tps=[4000.0, 5000.0], loop_per_s=[100_000.0]),
    )
    found = {figure.key: figure for figure in figures(record)}
    drain, median = found["drain.per_second"].ratio, found["rate-200.p50"].ratio
    assert drain is not None
    assert (drain.median, drain.low, drain.high) == pytest.approx((1000 / 4500, 0.2, 0.25))
    assert median is not None, "20 ms, read to 1 ms, in transactions"
    assert (median.median, median.low, median.high) == pytest.approx((90.0, 76.0, 105.0))
    cpu = found["drain.cpu"]
    assert cpu.spread.median == pytest.approx(1.5), "the benchmark's own 0.3 s are left out"
    assert cpu.ratio is not None
    assert cpu.ratio.median == pytest.approx(150.0), "rounds of the loop"
    assert found["drain.wal"].spread.median == pytest.approx(6_000.0)
    assert found["drain.wal"].ratio is None
    assert found["rate-200.per_second"].ratio is None
