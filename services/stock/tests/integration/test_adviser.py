"""Contention is measured by all instances together; products set to `auto` follow the advice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from shared.contracts.stock import StockStrategy
from shared.lease import Lease
from shared.pipeline.work import Work
from shared.testing.builders import put_product, reserve_stock
from shared.testing.replicas import RecordingRelay
from stock.adviser import LEASE, Adviser
from stock.store import Store
from stock.tally import Tally

if TYPE_CHECKING:
    from shared.database import Pool
    from shared.pipeline.relay import Relay

    from .conftest import MakeReplica, Replica

pytestmark = pytest.mark.usefixtures("checked")


def adviser(pool: Pool, number: int = 0) -> Adviser:
    owner = f"stock-{number}"
    work = Work(pool, cast("Relay", RecordingRelay(owner)), lease_s=30.0)
    return Adviser(pool, work, Lease(pool, LEASE, owner, lease_s=30.0))


async def measured(pool: Pool) -> dict[str, Tally]:
    async with pool.acquire() as connection:
        return await Store(connection).contention(60.0)


async def at_work(pool: Pool) -> dict[str, str]:
    rows = await pool.fetch("SELECT product_id, active FROM product")
    return {row["product_id"]: row["active"] for row in rows}


async def test_what_instances_measure_adds_up(
    replica: MakeReplica, stock: Replica, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sale of one product by four instances at once; another one in peace."""
    monkeypatch.setattr("stock.tally.NO_WAIT_MS", 60_000.0)  # however busy the machine is
    await stock.run(put_product("P001", quantity=100), put_product("P002", quantity=100))
    replicas = [replica(number) for number in range(1, 5)]

    async def sell(number: int) -> None:
        for turn in range(10):
            orders = [reserve_stock(f"o-{number}-{turn}-{n}") for n in range(20)]
            await replicas[number].run(*orders)

    await asyncio.gather(*map(sell, range(4)))
    await stock.run(reserve_stock("quiet", items={"P002": 1}))
    added = [await each.contention.run_once() for each in [stock, *replicas]]
    assert sum(added) <= 4, "of what nobody contended for, nothing is kept"
    told = await measured(pool)
    assert set(told) == {"P001"}
    assert told["P001"].commands <= 800
    assert told["P001"].refusals == 700
    assert [await each.contention.run_once() for each in replicas] == [0] * 4, "once each"


async def test_products_that_choose_follow_the_advice_and_no_others(
    stock: Replica, pool: Pool
) -> None:
    await stock.run(
        *(
            put_product(name, strategy=strategy)
            for name, strategy in (
                ("crowd", "auto"), ("queue", "auto"), ("quiet", "auto"), ("fixed", "optimistic"),
            )
        )
    )  # fmt: skip
    crowd = Tally(commands=60_000, refusals=59_000)
    async with pool.acquire() as connection:
        await Store(connection).add_contention(
            {
                "crowd": crowd, "fixed": crowd, "gone": crowd,
                "queue": Tally(commands=600, conflicts=120, lock_wait_ms=9_000.0),
                "quiet": Tally(commands=600, conflicts=1),
            }
        )  # fmt: skip
    acting = adviser(pool)
    assert await acting.run_once() == 2
    assert await at_work(pool) == {
        "crowd": "redis", "queue": "pessimistic", "quiet": "optimistic", "fixed": "optimistic",
    }  # fmt: skip
    assert await adviser(pool, 1).run_once() == 0, "one instance acts at a time"
    (reply,) = await stock.run(reserve_stock("o-1", items={"crowd": 1}))
    assert reply.type == "StockReserved"

    # What was measured before the switch says nothing of what came after.
    await pool.execute(
        "UPDATE product_contention SET refusals = 0, conflicts = 0, lock_wait_ms = 0"
    )
    assert await acting.run_once() == 0
    acting._switched_at_s.clear()
    assert await acting.run_once() == 2
    assert set((await at_work(pool)).values()) == {StockStrategy.OPTIMISTIC.value}


async def test_old_measurements_are_forgotten(stock: Replica, pool: Pool) -> None:
    async with pool.acquire() as connection:
        await Store(connection).add_contention({"P001": Tally(1, 1, 1, 1.0)})
    await pool.execute("UPDATE product_contention SET at = at - interval '11 minutes'")
    assert await measured(pool) == {}
    await adviser(pool).run_once()
    assert await pool.fetchval("SELECT count(*) FROM product_contention") == 0
