"""`StockLow` on Postgres: in the outbox of the transaction that made the product low."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.contracts.reading import reader_of
from shared.contracts.stock import StockLow
from shared.contracts.topics import TOPICS
from shared.testing import replicas
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    put_product,
    release_stock,
    reserve_stock,
)
from stock.consumers import routes
from stock.low_stock import LowStockCount
from stock.metrics import LOW_PRODUCTS

if TYPE_CHECKING:
    from shared.contracts.base import Message
    from shared.database import Pool

    from .conftest import MakeReplica, Replica

pytestmark = pytest.mark.usefixtures("checked")

THRESHOLD = 10
EVENTS = "stock.events.v1"


class Instance:
    """One instance of stock: what it tells of products that run low."""

    def __init__(self, stock: Replica, pool: Pool, threshold: int = THRESHOLD) -> None:
        """`stock` is whose counters it asks."""
        self._replica = replicas.Replica(
            "stock-0", pool, routes("KRW", stock.admitter, stock.contention, threshold)
        )

    async def run(self, *commands: Message) -> list[tuple[str, int, int]]:
        """Product, available units and version of each that became low in this chunk."""
        rows = [row for row in await self._replica.run(*commands) if row.message_type == "StockLow"]
        told = [reader_of(TOPICS[EVENTS]).read(row.value) for row in rows]
        for row, event in zip(rows, told, strict=True):
            assert isinstance(event, StockLow), event
            assert (row.topic, row.key, row.message_id, row.traceparent) == (
                EVENTS, event.product_id.encode(), event.level_id, replicas.TRACEPARENT,
            )  # fmt: skip
            assert event.threshold == THRESHOLD
        return [(event.product_id, event.available, event.version) for event in told]  # type: ignore[attr-defined,union-attr]


@pytest.fixture
def instance(stock: Replica, pool: Pool) -> Instance:
    return Instance(stock, pool)


async def test_a_fall_is_told_once_and_again_after_a_rise(instance: Instance) -> None:
    assert await instance.run(put_product("P1", quantity=12)) == []
    assert await instance.run(reserve_stock("o-1", items={"P1": 1})) == []
    assert await instance.run(reserve_stock("o-2", items={"P1": 1})) == [("P1", 10, 3)]
    assert await instance.run(reserve_stock("o-3", items={"P1": 1})) == []
    assert await instance.run(commit_stock("o-3")) == []
    # to the threshold and not above it
    assert await instance.run(release_stock("o-2")) == []
    assert await instance.run(reserve_stock("o-4", items={"P1": 1})) == []
    assert await instance.run(adjust_stock("P1", delta=20)) == []
    assert await instance.run(adjust_stock("P1", delta=-25)) == [("P1", 4, 9)]


async def test_what_happens_to_nobody_is_not_told(instance: Instance) -> None:
    """Refusals, duplicates, and what falls and rises within one chunk."""
    await instance.run(put_product("P1", quantity=11), put_product("P2", quantity=3))
    assert await instance.run(reserve_stock("o-1", items={"P1": 5, "P2": 4})) == []
    assert await instance.run(adjust_stock("P1", delta=-12)) == []
    assert await instance.run(reserve_stock("o-2", items={"P1": 1}), release_stock("o-2")) == []
    fall = reserve_stock("o-3", items={"P1": 4})
    assert await instance.run(fall, fall) == [("P1", 7, 4)]
    assert await instance.run(fall) == []


async def test_one_chunk_tells_of_several_products(instance: Instance) -> None:
    await instance.run(*(put_product(f"P{n}", quantity=11) for n in range(4)))
    told = await instance.run(
        reserve_stock("o-1", items={"P0": 1, "P1": 2}), reserve_stock("o-2", items={"P1": 1})
    )
    assert told == [("P0", 10, 2), ("P1", 8, 3)]


async def test_many_instances_tell_of_one_fall_once(
    pool: Pool, instance: Instance, replica: MakeReplica
) -> None:
    """They fold on the same row and conflict all the time."""
    await instance.run(put_product("P1", quantity=60))
    told = await asyncio.gather(
        *(
            Instance(replica(number), pool).run(
                *(reserve_stock(f"o-{number}-{at}", items={"P1": 1}) for at in range(6))
            )
            for number in range(10)
        )
    )
    assert sum(map(len, told)) == 1, told


async def test_it_can_be_switched_off(pool: Pool, stock: Replica) -> None:
    instance = Instance(stock, pool, threshold=0)
    await instance.run(put_product("P1", quantity=11))
    assert await instance.run(reserve_stock("o-1", items={"P1": 11})) == []


async def test_low_products_are_counted(pool: Pool, instance: Instance) -> None:
    await instance.run(*(put_product(f"P{n}", quantity=n) for n in range(8, 14)))
    await LowStockCount(pool, THRESHOLD).run_once()
    assert LOW_PRODUCTS._value.get() == 3
