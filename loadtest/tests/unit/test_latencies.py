"""Counts of milliseconds say what all latencies one by one would."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.latencies import counted, curve, merged, quantile

latencies = st.lists(st.floats(0.001, 60_000), min_size=1, max_size=300)


@given(latencies, st.floats(0.001, 1.0))
def test_a_quantile_is_the_shortest_time_that_covers_its_share(
    several: list[float], share: float
) -> None:
    found = quantile(counted(several), share)
    rounded = sorted(math.ceil(one) for one in several)
    wanted = math.ceil(share * len(rounded) - 1e-9)
    assert found == rounded[max(wanted, 1) - 1]


@given(latencies, latencies)
def test_counts_merge_as_if_they_had_been_one(one: list[float], other: list[float]) -> None:
    assert merged([counted(one), counted(other)]) == counted([*one, *other])


def test_no_order_looks_faster_than_it_was() -> None:
    assert counted([0.2, 1.0, 1.0001, 7.9]) == {1: 2, 2: 1, 8: 1}


def test_the_curve_says_one_in_how_many_took_so_long() -> None:
    one_in, times_ms = curve({5: 90, 50: 9, 500: 1})
    assert times_ms == [5, 50, 500]
    assert one_in == pytest.approx([1.0, 10.0, 100.0])


def test_of_nothing_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="nothing was counted"):
        quantile({}, 0.5)
