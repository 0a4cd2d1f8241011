"""Who was overtaken, and which coupons are out of order, against a count of every pair."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from bench.campaigns.fairness import Arrival, Fairness, fairness


def arrived(*places: tuple[int, int, int]) -> dict[str, Arrival]:
    return {f"u{number}": Arrival(*place) for number, place in enumerate(places, 1)}


def test_on_one_partition_the_offset_tells_who_came_first() -> None:
    users = arrived((5, 0, 0), (5, 0, 1), (5, 0, 2), (5, 0, 3))
    assert fairness(users, {"u1": 1, "u2": 2}) == Fairness(overtaken=0, inversions=0, early=2)
    assert fairness(users, {"u1": 2, "u2": 1}) == Fairness(overtaken=0, inversions=1, early=2)
    assert fairness(users, {"u2": 1, "u4": 2}) == Fairness(overtaken=2, inversions=0, early=1)


def test_over_partitions_the_timestamp_tells_it() -> None:
    users = arrived((5, 0, 9), (6, 1, 0), (7, 2, 4))
    assert fairness(users, {"u2": 1}).overtaken == 1, "the lower offset came later"
    assert fairness(users, {"u1": 2, "u3": 1}) == Fairness(overtaken=1, inversions=1, early=1)


def test_of_one_millisecond_nobody_is_overtaken() -> None:
    users = arrived((5, 0, 0), (5, 1, 0), (5, 2, 0))
    assert fairness(users, {"u3": 1, "u2": 2}) == Fairness(overtaken=0, inversions=0, early=0)


def test_where_nobody_has_a_coupon_nobody_is_overtaken() -> None:
    assert fairness(arrived((5, 0, 0), (6, 0, 1)), {}) == Fairness(0, 0, 0)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[dict[str, Arrival], dict[str, int]]:
    """Users at their places, of whom some have coupons; timestamps may go back on a partition."""
    places = draw(
        st.lists(
            st.builds(Arrival, st.integers(0, 4), st.integers(0, 2), st.integers(0, 9)),
            unique_by=lambda one: (one.partition, one.offset),
            max_size=14,
        )
    )
    arrivals = {f"u{number}": place for number, place in enumerate(places)}
    lucky = draw(st.lists(st.sampled_from(sorted(arrivals)), unique=True)) if arrivals else []
    return arrivals, {user: number for number, user in enumerate(lucky, 1)}


@given(crowds())
def test_as_whoever_looks_at_every_pair(
    crowd: tuple[dict[str, Arrival], dict[str, int]],
) -> None:
    arrivals, sequences = crowd
    overtaken = {
        user
        for user, lucky in permutations(arrivals, 2)
        if user not in sequences and lucky in sequences
        if arrivals[user].before(arrivals[lucky])
    }
    inversions = sum(
        arrivals[one].before(arrivals[other]) and sequences[one] > sequences[other]
        for one, other in permutations(sequences, 2)
    )
    found = fairness(arrivals, sequences)
    assert found.overtaken == len(overtaken)
    assert found.inversions == inversions
    assert 0 <= found.early <= min(len(sequences), len(arrivals) // 2)
