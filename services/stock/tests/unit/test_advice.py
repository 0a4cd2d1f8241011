"""What is measured of contention, and what is advised for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.order_parts import LineDetail
from shared.contracts.stock import StockRefusal, StockRefused, StockStrategy
from shared.testing.builders import commit_stock, reserve_stock
from stock.advice import WINDOW_S, advise
from stock.tally import NO_WAIT_MS, Tally, tally

OPTIMISTIC, PESSIMISTIC, REDIS = (
    StockStrategy.OPTIMISTIC, StockStrategy.PESSIMISTIC, StockStrategy.REDIS,
)  # fmt: skip
AT_WORK = (OPTIMISTIC, PESSIMISTIC, REDIS)
TALLIES = st.builds(
    Tally,
    commands=st.integers(0, 100_000),
    conflicts=st.integers(0, 10_000),
    refusals=st.integers(0, 100_000),
    lock_wait_ms=st.floats(0, 1e7),
).map(lambda one: one._replace(refusals=min(one.refusals, one.commands)))


@pytest.mark.parametrize("active", AT_WORK)
@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (Tally(), OPTIMISTIC),
        (Tally(commands=60_000), OPTIMISTIC),
        (Tally(commands=60_000, conflicts=600, lock_wait_ms=10_000), PESSIMISTIC),
        (Tally(commands=6_000, lock_wait_ms=20_000), PESSIMISTIC),
        (Tally(commands=60_000, refusals=59_000, conflicts=600), REDIS),
        (Tally(commands=60_000, refusals=14_000), OPTIMISTIC),  # most got what they wanted
        (Tally(commands=40, refusals=39), OPTIMISTIC),  # no crowd
    ],
)
def test_the_clear_cases(active: StockStrategy, measured: Tally, expected: StockStrategy) -> None:
    advice = advise(measured, active)
    assert advice.strategy is expected
    assert advice.why


@given(TALLIES, st.sampled_from(AT_WORK))
def test_who_follows_the_advice_is_not_sent_back_by_the_same_measurement(
    measured: Tally, active: StockStrategy
) -> None:
    """At an edge a product would change to and fro, and every change makes admissions void."""
    chosen = advise(measured, active).strategy
    assert advise(measured, chosen).strategy is chosen


@given(TALLIES)
def test_it_takes_less_to_stay_than_to_come(measured: Tally) -> None:
    came = advise(measured, OPTIMISTIC).strategy
    assert advise(measured, came, WINDOW_S * 2).strategy is came, "half of it is enough to stay"


def refused(order: str, *products: str, reason: str = "out_of_stock") -> StockRefused:
    details = tuple(LineDetail(product_id=one, requested=1, available=0) for one in products)
    return StockRefused(
        command_id=f"{order}:reserve:do", order_id=order, reason=StockRefusal(reason),
        details=details,
    )  # fmt: skip


def test_a_chunk_tells_of_each_product_by_itself() -> None:
    commands: Any = [
        reserve_stock("a", items={"P1": 1}),
        reserve_stock("b", items={"P1": 1, "P2": 9}),
        reserve_stock("c", items={"P1": 5}),
        commit_stock("d"),
    ]
    replies: Any = [
        None,
        refused("b", "P2"),
        refused("c", "P1", reason="temporarily_unavailable"),
        None,
    ]
    told = tally(commands, replies, conflicted={"P1", "P9"}, waited_ms=40.0)
    assert told == {"P1": Tally(3, 1, 0, 30.0), "P2": Tally(1, 0, 1, 10.0)}
    assert tally(commands[3:], replies[3:], conflicted=(), waited_ms=40.0) == {}
    (quick,) = tally(commands[:1], replies[:1], conflicted=(), waited_ms=NO_WAIT_MS).values()
    assert not quick.is_contended, "the lock was there at once"


@given(TALLIES, TALLIES)
def test_tallies_add_up(one: Tally, other: Tally) -> None:
    assert one.plus(other) == tuple(map(sum, zip(one, other, strict=True)))
