"""What would go wrong at the level below, or without the protection, and that it doesn't here.

Each pair is one interleaving of two transactions: docs/isolation.md has the table.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from shared.audit import Source, audit
from shared.contracts.stock import StockRefused, StockReleased, StockReserved
from shared.database import write_all
from shared.testing.builders import put_product, release_stock, reserve_stock
from shared.testing.interleaving import lock_waiters, stopping_pool
from stock.domain import Fold
from stock.handlers import _saved
from stock.metrics import CONFLICTS
from stock.store import Store, queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.testing.databases import Database, Postgres
    from shared.testing.interleaving import Level

    from .conftest import Counters, MakeReplica, Replica

HIGHER: Any = pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
IN_PLAN_ORDER = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off"
"""A plan that the planner is free to choose: rows in the order of the array."""


@asynccontextmanager
async def two(database: Database) -> AsyncIterator[tuple[Postgres, Postgres]]:
    async with database.connection("stock") as one, database.connection("stock") as other:
        yield one, other


async def violations(database: Database) -> set[str]:
    report = await audit(database.operator_dsn, [Source("stock", "stock")], only_always=True)
    return {check.name for check in report.violations}


async def sell_without_locks(database: Database, level: Level) -> None:
    """Two orders read the same row, and each writes what it made of it, the second after the first
    has committed."""
    async with two(database) as connections, AsyncExitStack() as ends:
        read = []
        for connection in connections:
            transaction = connection.transaction(isolation=level)
            await transaction.start()
            ends.push_async_callback(connection.close)
            read.append((transaction, await Store(connection).read_products(["P001"])))
        for number, (connection, (transaction, products)) in enumerate(
            zip(connections, read, strict=True)
        ):
            fold = Fold(products, [], "KRW")
            fold.apply(reserve_stock(f"o-{number}"))
            await write_all(connection, _saved(Store(connection), fold))
            await transaction.commit()


class TestLostUpdate:
    """Of a product's row: lock to save, and fold again where its version is another."""

    async def test_without_locks_one_of_two_sales_is_lost(
        self, stock: Replica, database: Database, counters: Counters
    ) -> None:
        await stock.run(put_product("P001", quantity=10))
        await sell_without_locks(database, "read_committed")
        assert await counters() == (9, 1, 0, 10), "two orders hold a unit each"
        found = await violations(database)
        assert found == {"ledger_agrees", "reservations_hold_what_is_reserved"}

    @HIGHER
    async def test_a_higher_level_turns_the_second_back(
        self, stock: Replica, database: Database, counters: Counters, level: Level
    ) -> None:
        """Nothing is lost, and the whole chunk has to come again for it."""
        await stock.run(put_product("P001", quantity=10))
        with pytest.raises(asyncpg.SerializationError):
            await sell_without_locks(database, level)
        assert await counters() == (9, 1, 0, 10)
        assert await violations(database) == set()

    async def test_ours_sees_the_other_version_and_folds_again(
        self, stock: Replica, replica: MakeReplica, database: Database, counters: Counters
    ) -> None:
        await stock.run(put_product("P001", quantity=10))
        before = CONFLICTS._value.get()
        async with stopping_pool(database.dsn("stock"), after=queries.read_products) as (
            pool,
            gate,
        ):
            selling = asyncio.create_task(replica(1, pool).run(reserve_stock("o-1")))
            await gate.reached()
            await stock.run(reserve_stock("o-0"))
            gate.open()
            (reply,) = await selling
        assert isinstance(reply, StockReserved)
        assert CONFLICTS._value.get() == before + 1
        assert await counters() == (8, 2, 0, 10)
        assert await violations(database) == set()


class TestLockedRow:
    """Who waited for a lock goes on with the row as it is by then: that is READ COMMITTED."""

    async def wait_for_the_row(self, database: Database, level: Level) -> Sequence[Any]:
        async with two(database) as (one, other):
            async with one.transaction():
                (product,) = await Store(one).lock_products(["P001"])
                transaction = other.transaction(isolation=level)
                await transaction.start()
                waiting = asyncio.create_task(Store(other).lock_products(["P001"]))
                await lock_waiters(database)
                changed = product._replace(available=9, reserved=1, version=product.version + 1)
                await write_all(one, [Store(one).update_counters([changed])])
            return await waiting

    @HIGHER
    async def test_a_higher_level_turns_back_whoever_waited(
        self, stock: Replica, database: Database, level: Level
    ) -> None:
        await stock.run(put_product("P001", quantity=10))
        with pytest.raises(asyncpg.SerializationError):
            await self.wait_for_the_row(database, level)

    async def test_ours_goes_on_with_what_the_other_wrote(
        self, stock: Replica, database: Database
    ) -> None:
        await stock.run(put_product("P001", quantity=10))
        (product,) = await self.wait_for_the_row(database, "read_committed")
        assert product.available == 9


class TestDeadlock:
    """Two chunks want the same rows, each in its own order; a third holds the one between."""

    ORDERS = (["P001", "P002", "P003"], ["P003", "P002", "P001"])

    async def save(self, connection: Postgres, ids: list[str], *, locked_first: bool) -> None:
        async with connection.transaction():
            store = Store(connection)
            lock = store.lock_products if locked_first else store.read_products
            found = {product.product_id: product for product in await lock(ids)}
            await write_all(connection, [store.update_counters([found[one] for one in ids])])

    async def race(
        self, stock: Replica, database: Database, *, locked_first: bool
    ) -> list[BaseException | None]:
        for product_id in self.ORDERS[0]:
            await stock.run(put_product(product_id, quantity=10))
        async with two(database) as both, database.connection("stock") as third:
            tasks = []
            async with third.transaction():
                await Store(third).lock_products(["P002"])
                for waiters, (connection, ids) in enumerate(zip(both, self.ORDERS, strict=True), 1):
                    await connection.execute(IN_PLAN_ORDER)
                    saving = self.save(connection, ids, locked_first=locked_first)
                    tasks.append(asyncio.create_task(saving))
                    await lock_waiters(database, waiters)
            return await asyncio.gather(*tasks, return_exceptions=True)

    async def test_rows_locked_in_the_order_of_a_plan_deadlock(
        self, stock: Replica, database: Database
    ) -> None:
        ended = await self.race(stock, database, locked_first=False)
        assert sorted(type(one).__name__ for one in ended) == ["DeadlockDetectedError", "NoneType"]

    async def test_ours_are_locked_in_key_order(self, stock: Replica, database: Database) -> None:
        assert await self.race(stock, database, locked_first=True) == [None, None]


class TestMissingRow:
    """`FOR UPDATE` locks no row that isn't there: a do and its undo meet at the primary key."""

    async def race(self, stock: Replica, replica: MakeReplica, database: Database) -> list[Any]:
        """The undo comes, and is answered, after the do has found that nothing is decided."""
        await stock.run(put_product("P001", quantity=10))
        async with stopping_pool(database.dsn("stock"), after=queries.lock_reservations) as (
            pool,
            gate,
        ):
            doing = asyncio.create_task(replica(1, pool).run(reserve_stock("o-1")))
            await gate.reached()
            undone = await stock.run(release_stock("o-1"))
            gate.open()
            return [*undone, *await doing]

    async def test_without_the_key_a_late_do_slips_past_its_undo(
        self, stock: Replica, replica: MakeReplica, database: Database, counters: Counters
    ) -> None:
        async with database.connection() as admin:
            await admin.execute("ALTER TABLE stock.reservation DROP CONSTRAINT reservation_pkey")
        try:
            undone, done = await self.race(stock, replica, database)
        finally:
            async with database.connection() as admin:
                await admin.execute("TRUNCATE stock.reservation")
                await admin.execute("ALTER TABLE stock.reservation ADD PRIMARY KEY (order_id)")
        assert isinstance(undone, StockReleased)
        assert isinstance(done, StockReserved)
        assert await counters() == (9, 1, 0, 10), "held for good: its undo was answered"

    async def test_ours_finds_the_tombstone(
        self, stock: Replica, replica: MakeReplica, database: Database, counters: Counters
    ) -> None:
        undone, done = await self.race(stock, replica, database)
        assert isinstance(undone, StockReleased)
        assert isinstance(done, StockRefused)
        assert done.reason == "already_released"
        assert await counters() == (10, 0, 0, 10)
