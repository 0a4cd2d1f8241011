"""Stock's handlers on Postgres, many instances at once: no deadlock, and no unit too many."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.stock import StockRefusal, StockRefused, StockReleased, StockReserved
from shared.pipeline import outbox
from shared.telemetry import metrics
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    put_product,
    release_stock,
    reserve_stock,
)
from shared.testing.signals import Gate, eventually
from stock.handlers import CONFLICTS_BEFORE_LOCKING
from stock.metrics import CONFLICTS
from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.testing.databases import Database
    from stock.records import Product

    from .conftest import Counters, MakeReplica, Replica

pytestmark = pytest.mark.usefixtures("checked")


def deadlocks() -> float:
    return float(metrics.RETRIES.labels("stock", "deadlock")._value.get())


async def test_f48_carts_in_inverse_order_over_several_instances_never_deadlock(
    replica: MakeReplica,
) -> None:
    """Every chunk touches most products, in another order each; some are reserved, some undone."""
    products = [f"P{number:03}" for number in range(40)]
    setup = replica(9)
    await setup.run(*(put_product(key, quantity=60) for key in products))
    before = deadlocks()
    chance = random.Random(48)

    def carts(instance: int) -> list[list[Message]]:
        chunks: list[list[Message]] = []
        for chunk in range(12):
            order = products if (instance + chunk) % 2 else products[::-1]
            ids = [f"o-{instance}-{chunk}-{n}" for n in range(15)]
            reserves: list[Message] = [
                reserve_stock(one, items=dict.fromkeys(order[n : n + 4], 1))
                for n, one in enumerate(ids)
            ]
            chance.shuffle(reserves)
            chunks += [reserves, [release_stock(one) for one in ids[::2]]]
        return chunks

    async def work(number: int, chunks: list[list[Message]]) -> list[Message]:
        own = replica(number)
        return [reply for chunk in chunks for reply in await own.run(*chunk)]

    replies = await asyncio.gather(*(work(n, carts(n)) for n in range(5)))
    kinds = [type(reply) for batch in replies for reply in batch]
    assert kinds.count(StockReserved) + kinds.count(StockRefused) == 5 * 12 * 15
    assert kinds.count(StockReleased) == 5 * 12 * 8
    assert kinds.count(StockRefused) > 0
    assert deadlocks() == before


async def test_f48_operators_and_orders_at_once_never_deadlock(
    replica: MakeReplica, pool: Pool
) -> None:
    """The statements that deadlocked in trials lock in key order: updates, inserts, both groups."""
    products = [f"P{number:03}" for number in range(12)]
    before = deadlocks() + metrics.RETRIES.labels("stock-requests", "deadlock")._value.get()

    async def operate(number: int) -> None:
        own = replica(number)
        for turn in range(15):
            order = products if (number + turn) % 2 else products[::-1]
            await own.run(
                *(put_product(key, quantity=5) for key in order),
                *(adjust_stock(key, delta=1) for key in order[::-1]),
            )

    async def sell(number: int) -> None:
        own = replica(number)
        for turn in range(15):
            order = products if (number + turn) % 2 else products[::-1]
            ids = [f"o-{number}-{turn}-{n}" for n in range(6)]
            await own.run(*(reserve_stock(one, items=dict.fromkeys(order, 1)) for one in ids))
            await own.run(*(commit_stock(one) for one in ids[::-1]))

    await asyncio.gather(operate(0), sell(1), operate(2), sell(3), sell(4))
    after = deadlocks() + metrics.RETRIES.labels("stock-requests", "deadlock")._value.get()
    assert after == before
    sold = await pool.fetchval("SELECT sum(sold) FROM product")
    assert sold > 0


async def test_the_last_units_go_to_as_many_orders_as_there_are(
    replica: MakeReplica, counters: Counters
) -> None:
    await replica(9).run(put_product("P001", quantity=100))

    async def work(number: int) -> list[Message]:
        own = replica(number)
        return [
            reply
            for start in range(0, 50, 10)
            for reply in await own.run(
                *(reserve_stock(f"o-{number}-{start + n}") for n in range(10))
            )
        ]

    replies = [one for batch in await asyncio.gather(*map(work, range(6))) for one in batch]
    assert sum(isinstance(one, StockReserved) for one in replies) == 100
    assert await counters() == (0, 100, 0, 100)


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Stops `Store.read_products` after it has read, in the task named `gated`."""
    gate = Gate("products were read")
    read = Store.read_products

    async def read_and_stop(self: Store, product_ids: Collection[str]) -> list[Product]:
        found = await read(self, product_ids)
        task = asyncio.current_task()
        if task is not None and task.get_name() == "gated":
            await gate.stop()
        return found

    monkeypatch.setattr(Store, "read_products", read_and_stop)
    return gate


async def test_who_folded_on_rows_that_changed_meanwhile_folds_again(
    stock: Replica, replica: MakeReplica, counters: Counters, gated: Gate
) -> None:
    await stock.run(put_product("P001", quantity=3))
    conflicts = CONFLICTS._value.get()
    slow = asyncio.create_task(stock.run(reserve_stock("o-1", items={"P001": 2})), name="gated")
    await gated.reached()
    other = replica(1)
    await other.run(reserve_stock("o-2", items={"P001": 2}))
    gated.open()
    (reply,) = await slow
    assert isinstance(reply, StockRefused), "two and two are not three"
    assert reply.details[0].available == 1
    assert CONFLICTS._value.get() == conflicts + 1
    assert await counters() == (1, 2, 0, 3)


async def test_exhaustion_is_never_a_refusal_it_locks_before_it_folds(
    stock: Replica, replica: MakeReplica, gated: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock.run(put_product("P001", quantity=1_000))
    other = replica(1)
    locked: list[int] = []
    lock = Store.lock_products

    async def note(self: Store, product_ids: Collection[str]) -> list[Product]:
        locked.append(1)
        return await lock(self, product_ids)

    for turn in range(CONFLICTS_BEFORE_LOCKING):
        slow = asyncio.create_task(stock.run(reserve_stock(f"a-{turn}")), name="gated")
        await gated.reached(turn + 1)
        await other.run(reserve_stock(f"b-{turn}"))
        gated.open()
        assert isinstance((await slow)[0], StockReserved)
        gated._opened.clear()
    monkeypatch.setattr(Store, "lock_products", note)
    slow = asyncio.create_task(stock.run(reserve_stock("a-last")), name="gated")
    assert isinstance((await slow)[0], StockReserved), "it didn't stop: it read nothing unlocked"
    assert locked == [1], "once, before the fold"


@pytest.mark.parametrize("first", ["do", "undo"])
async def test_f15_of_a_do_and_its_undo_one_decides_and_the_units_follow(
    replica: MakeReplica,
    counters: Counters,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    """The second waits at the order's key until the first has committed, and starts over."""
    await replica(9).run(put_product("P001", quantity=5))
    do, undo = reserve_stock("o-1", items={"P001": 2}), release_stock("o-1")
    gate = Gate("the first has written")
    write = outbox.write_all

    async def write_and_stop(*arguments: Any) -> Any:
        written = await write(*arguments)
        task = asyncio.current_task()
        if task is not None and task.get_name() == "gated":
            await gate.stop()
        return written

    monkeypatch.setattr(outbox, "write_all", write_and_stop)
    commands = (do, undo) if first == "do" else (undo, do)
    conflicts = metrics.RETRIES.labels("stock", "conflict")._value.get()
    ahead = asyncio.create_task(replica(0).run(commands[0]), name="gated")
    await gate.reached()
    behind = asyncio.create_task(replica(1).run(commands[1]))
    async with database.connection() as admin:
        await eventually(
            lambda: admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = $1 AND wait_event_type = 'Lock'",
                database.name,
            )
        )
    gate.open()
    (reply,), (later,) = await ahead, await behind
    assert metrics.RETRIES.labels("stock", "conflict")._value.get() == conflicts + 1
    if first == "do":
        assert isinstance(reply, StockReserved)
        assert isinstance(later, StockReleased)
        assert later.effect == "undone"
    else:
        assert isinstance(reply, StockReleased)
        assert reply.effect == "nothing"
        assert isinstance(later, StockRefused)
        assert later.reason is StockRefusal.ALREADY_RELEASED
    assert await counters() == (5, 0, 0, 5)
