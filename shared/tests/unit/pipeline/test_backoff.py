"""Waiting between attempts: longer and longer, bounded, and never all at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared import backoff


@given(st.integers(1, 10_000))
def test_a_delay_is_bounded_and_never_nothing(attempt: int) -> None:
    delay_s = backoff.delay_s(attempt)
    assert backoff.FIRST_S / 2 <= delay_s <= backoff.LONGEST_S


@given(st.integers(1, 6))
def test_a_delay_doubles_before_chance(attempt: int) -> None:
    upper_s = backoff.FIRST_S * 2 ** (attempt - 1)
    assert upper_s / 2 <= backoff.delay_s(attempt) <= upper_s


def test_those_who_failed_together_do_not_try_again_together() -> None:
    assert len({backoff.delay_s(20) for _ in range(20)}) > 15


def test_bounds_can_be_given() -> None:
    assert 1.0 <= backoff.delay_s(50, first_s=0.1, longest_s=2.0) <= 2.0
