"""What stock's handlers say and write on Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.contracts.stock import ProductPut, StockCommitted, StockRefusal, StockReserved
from shared.telemetry import metrics
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    put_product,
    release_stock,
    reserve_stock,
)

if TYPE_CHECKING:
    from .conftest import Counters, MakeReplica, Replica

pytestmark = pytest.mark.usefixtures("checked")


@pytest.mark.parametrize("order", [1, -1], ids=["refused first", "obeyed first"])
async def test_commands_of_two_types_under_one_id_have_an_answer_each(
    stock: Replica, order: int
) -> None:
    """In one chunk: one is refused and its id is free again, the other is obeyed and kept."""
    refused = adjust_stock("P001", delta=-50, command_id="c-1")
    put = put_product("P001", quantity=10, command_id="c-1")
    answers = await stock.run(*[refused, put][::order])
    said = {type(answer).__name__ for answer in answers}
    assert {"ProductPut", "CommandRefused"} <= said
    (again,) = await stock.run(put)
    assert isinstance(again, ProductPut)


async def test_an_order_from_reserve_to_sale(stock: Replica, counters: Counters) -> None:
    await stock.run(put_product("P001", quantity=10, price=250))
    (reserved,) = await stock.run(reserve_stock("o-1", items={"P001": 3}))
    assert isinstance(reserved, StockReserved)
    assert [line.unit_price for line in reserved.items] == [250]
    assert await counters() == (7, 3, 0, 10)
    (committed,) = await stock.run(commit_stock("o-1"))
    assert isinstance(committed, StockCommitted)
    assert await counters() == (7, 0, 3, 10)


async def test_f1_f3_what_was_said_once_is_said_again_whatever_came_between(
    stock: Replica, replica: MakeReplica, counters: Counters
) -> None:
    await stock.run(put_product("P001", quantity=2, price=250))
    commands = [
        reserve_stock("o-1", items={"P001": 2}),
        reserve_stock("o-2", items={"P001": 1, "P404": 1}),
        reserve_stock("o-3", items={"P001": 1}),
        release_stock("o-4"),
        reserve_stock("o-4", items={"P001": 1}),
        release_stock("o-1"),
    ]
    first = await stock.run(*commands)
    assert [getattr(one, "reason", None) for one in first] == [
        None, StockRefusal.UNKNOWN_PRODUCT, StockRefusal.OUT_OF_STOCK, None,
        StockRefusal.ALREADY_RELEASED, None,
    ]  # fmt: skip
    # stock comes, the price changes, and another instance is asked
    await stock.run(adjust_stock(delta=50), put_product("P001", price=999), put_product("P404"))
    after = await counters()
    for command, reply in zip(commands, first, strict=True):
        assert await replica(1).run(command) == [reply]
    assert await counters() == after == (52, 0, 0, 52)


async def test_a_release_of_what_is_sold_is_dead_lettered_alone(
    stock: Replica, counters: Counters
) -> None:
    await stock.run(put_product("P001", quantity=5))
    await stock.run(reserve_stock("o-1"), commit_stock("o-1"))
    before = metrics.DEAD_LETTERS.labels("stock", "handling_failed")._value.get()
    await stock.run(reserve_stock("o-2"), release_stock("o-1"))
    assert metrics.DEAD_LETTERS.labels("stock", "handling_failed")._value.get() == before + 1
    assert await counters() == (3, 1, 1, 5)
