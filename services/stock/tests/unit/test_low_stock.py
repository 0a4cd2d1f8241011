"""Which products are told low: once for each fall, as committed states show it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.stock import AdjustStock, StockStrategy, WhenRedisDown
from stock.catalogue import CatalogueFold
from stock.records import Product, fallen_rows


def fallen(before: Product | None, after: Product, units: int) -> bool:
    """Whether a chunk that loaded `before` and saves `after` tells of it."""
    loaded = {} if before is None else {before.product_id: before}
    return fallen_rows({after.product_id: after}, loaded, units) == [after]


units_of_stock = st.integers(0, 20)


def product(available: int, version: int = 1) -> Product:
    return Product(
        "P1", "Lamp", 100, "KRW", StockStrategy.OPTIMISTIC, WhenRedisDown.POSTGRES, None,
        available, 0, 0, available, version, StockStrategy.OPTIMISTIC, 1, 1,
    )  # fmt: skip


@given(st.lists(units_of_stock, min_size=1, max_size=60), st.integers(1, 20))
def test_each_fall_is_told_once_until_it_rose_above_again(
    states: list[int], threshold: int
) -> None:
    """`states` are what commits leave, one after the other."""
    is_low = states[0] <= threshold
    for before, after in itertools.pairwise(states):
        told = fallen(product(before), product(after, 2), threshold)
        assert told == (not is_low and after <= threshold)
        is_low = after <= threshold


@given(st.lists(st.lists(st.integers(-9, 9).filter(bool), max_size=6), max_size=12))
def test_what_falls_and_rises_within_a_chunk_is_not_told(chunks: list[list[int]]) -> None:
    """Whatever its commands do in between, a chunk's first and last state decide."""
    now, told, falls = product(12), 0, 0
    for number, deltas in enumerate(chunks):
        fold = CatalogueFold([now], "KRW")
        for at, delta in enumerate(deltas):
            fold.apply(
                AdjustStock(command_id=f"c-{number}-{at}", product_id="P1", delta=delta, reason="")
            )
        after = fold.changed_products
        told += len(fold.fallen_products(10))
        if after:
            falls += now.available > 10 >= after[0].available
            now = after[0]
    assert told == falls


def test_the_threshold_itself_is_low() -> None:
    assert fallen(product(11), product(10), 10)
    assert not fallen(product(12), product(11), 10)
    assert not fallen(product(10), product(9), 10)


def test_zero_switches_it_off_and_new_products_did_not_fall() -> None:
    assert not fallen(product(5), product(0), 0)
    assert not fallen(None, product(3), 10)
