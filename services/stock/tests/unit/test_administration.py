"""What operators say of products, decided in memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.base import MAX_TOTAL
from shared.contracts.refusals import CommandRefusal, Refused
from shared.contracts.stock import (
    AdjustStock,
    ProductPut,
    PutProduct,
    SetStockStrategy,
    StockAdjusted,
    StockStrategy,
    StockStrategySet,
    WhenRedisDown,
)
from stock.catalogue import AdminCommand, CatalogueFold
from stock.records import MovementKind, Product


def product(available: int = 5, received: int | None = None) -> Product:
    received = available if received is None else received
    return Product(
        "P1", "Lamp", 100, "KRW", StockStrategy.OPTIMISTIC, WhenRedisDown.POSTGRES, None,
        available, 0, received - available, received, 3, StockStrategy.OPTIMISTIC, 1, 1,
    )  # fmt: skip


def put(**changes: Any) -> PutProduct:
    fields: dict[str, Any] = {
        "command_id": "c-1", "product_id": "P1", "name": "Desk lamp", "price": 250,
        "currency": "KRW", "strategy": StockStrategy.OPTIMISTIC, "quantity": 7,
    }  # fmt: skip
    return PutProduct(**fields | changes)


def adjust(delta: int) -> AdjustStock:
    return AdjustStock(command_id="c-2", product_id="P1", delta=delta, reason="stocktaking")


def choose(strategy: StockStrategy) -> SetStockStrategy:
    return SetStockStrategy(command_id="c-3", product_id="P1", strategy=strategy)


def test_a_new_product_receives_its_quantity() -> None:
    fold = CatalogueFold((), "KRW")
    event = fold.apply(put())
    assert isinstance(event, ProductPut)
    assert event.received == 7
    (new,) = fold.new_products
    assert (new.available, new.reserved, new.sold, new.received, new.version) == (7, 0, 0, 7, 1)
    (movement,) = fold.movements
    assert (movement.kind, movement.quantity) == (MovementKind.RECEIVED, 7)


def test_a_new_product_without_units_moves_nothing() -> None:
    fold = CatalogueFold((), "KRW")
    assert isinstance(fold.apply(put(quantity=0)), ProductPut)
    assert fold.movements == []


def test_a_known_product_keeps_its_units() -> None:
    fold = CatalogueFold([product()], "KRW")
    event = fold.apply(put(max_per_order=2))
    assert isinstance(event, ProductPut)
    assert (event.name, event.price, event.received) == ("Desk lamp", 250, 5)
    (changed,) = fold.changed_products
    assert (changed.available, changed.received, changed.version) == (5, 5, 4)
    assert changed.max_per_order == 2
    assert fold.movements == []


@given(st.lists(st.integers(-20, 20).filter(bool), max_size=20))
def test_adjustments_never_take_more_than_is_available(deltas: list[int]) -> None:
    fold = CatalogueFold([product(available=5, received=9)], "KRW")
    available = 5
    for delta in deltas:
        event = fold.apply(adjust(delta))
        if available + delta < 0:
            assert isinstance(event, Refused)
            assert event.reason is CommandRefusal.INSUFFICIENT_STOCK
        else:
            available += delta
            assert isinstance(event, StockAdjusted)
            assert event.available == available
    after = fold.changed_products[0] if fold.changed_products else product(5, 9)
    assert (after.available, after.sold, after.received) == (available, 4, available + 4)
    assert sum(one.quantity for one in fold.movements) == available - 5


def refusals() -> list[tuple[str, list[Product], AdminCommand, CommandRefusal]]:
    known = [product()]
    return [
        ("adjust unknown", [], adjust(1), CommandRefusal.UNKNOWN_PRODUCT),
        ("strategy of unknown", [], choose(StockStrategy.OPTIMISTIC),
         CommandRefusal.UNKNOWN_PRODUCT),
        ("too little", known, adjust(-6), CommandRefusal.INSUFFICIENT_STOCK),
        ("past the limit", [product(5, MAX_TOTAL)], adjust(1), CommandRefusal.LIMIT_EXCEEDED),
        ("currency", known, put(currency="USD"), CommandRefusal.CURRENCY_MISMATCH),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("products", "command", "reason"),
    [case[1:] for case in refusals()],
    ids=[case[0] for case in refusals()],
)
def test_a_refused_command_changes_nothing(
    products: list[Product], command: AdminCommand, reason: CommandRefusal
) -> None:
    fold = CatalogueFold(products, "KRW")
    event = fold.apply(command)
    assert isinstance(event, Refused)
    assert event.reason is reason
    assert event.detail
    assert (fold.new_products, fold.changed_products, fold.movements) == ([], [], [])


@given(st.lists(st.sampled_from(StockStrategy), max_size=8))
def test_every_change_of_the_strategy_at_work_is_fenced(chosen: list[StockStrategy]) -> None:
    """`auto` goes on with what is at work; whatever changes it makes older admissions void."""
    fold = CatalogueFold([product()], "KRW")
    before = product()
    for number, strategy in enumerate(chosen, 1):
        command = choose(strategy) if number % 2 else put(strategy=strategy)
        assert isinstance(fold.apply(command), StockStrategySet | ProductPut)
        after = fold.products["P1"]
        assert after.strategy is strategy
        assert after.active is (before.active if strategy is StockStrategy.AUTO else strategy)
        changed = after.active is not before.active
        assert after.fence == (before.epoch + changed, before.generation + changed)
        assert after.version == before.version + 1
        before = after


def test_a_new_product_that_chooses_by_itself_begins_with_the_optimistic_lock() -> None:
    fold = CatalogueFold((), "KRW")
    fold.apply(put(strategy=StockStrategy.AUTO))
    (new,) = fold.new_products
    assert (new.strategy, new.active) == (StockStrategy.AUTO, StockStrategy.OPTIMISTIC)
