"""The feed of levels on Postgres: a pass finds what changed, whenever it commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.stock import StockLevel
from shared.contracts.topics import TOPICS
from shared.lease import Lease
from shared.testing.builders import commit_stock, put_product, reserve_stock
from stock import levels
from stock.levels import TOPIC, LevelFeed

if TYPE_CHECKING:
    import pytest

    from shared.database import Pool
    from shared.kafka.publisher import Publisher, Record
    from shared.testing.databases import Database

    from .conftest import Replica

NEVER_S = 1e9
LEASE_S = 30.0
LEDGER_ROWS = 300_000


class Recorder:
    """Stands where the broker does: the levels that were sent, in their order."""

    def __init__(self) -> None:
        self.sent: list[StockLevel] = []

    async def publish(self, records: list[Record]) -> None:
        reader = reader_of(TOPICS[TOPIC])
        for record in records:
            level = reader.read(record.value)
            assert not isinstance(level, Unreadable), level
            assert isinstance(level, StockLevel)
            self.sent.append(level)

    def take(self) -> dict[str, tuple[int, int]]:
        """Version and available units of each product since the last time."""
        taken = {level.product_id: (level.version, level.available) for level in self.sent}
        self.sent.clear()
        return taken


def feed_of(pool: Pool, recorder: Recorder, compare_s: float = NEVER_S) -> LevelFeed:
    return LevelFeed(
        pool,
        Lease(pool, TOPIC, "stock-0", lease_s=LEASE_S),
        cast("Publisher", recorder),
        lease_s=LEASE_S,
        compare_s=compare_s,
    )


async def test_what_moves_is_found_without_the_comparison(pool: Pool, stock: Replica) -> None:
    await stock.run(*(put_product(f"P00{n}", quantity=10) for n in range(3)))
    recorder = Recorder()
    feed = feed_of(pool, recorder)
    await feed.run_once()
    assert recorder.take() == {f"P00{n}": (1, 10) for n in range(3)}
    await stock.run(reserve_stock("o-1", items={"P001": 3}))
    await stock.run(commit_stock("o-1"))
    await feed.run_once()
    assert recorder.take() == {"P001": (3, 7)}
    assert await feed.run_once() == 0


async def test_a_transaction_that_commits_long_after_it_began_is_found(
    pool: Pool, stock: Replica, database: Database
) -> None:
    """Its movement is older than what passes that ended meanwhile have seen."""
    await stock.run(put_product("P001", quantity=10), put_product("P002", quantity=10))
    recorder = Recorder()
    feed = feed_of(pool, recorder)
    await feed.run_once()
    async with database.connection("stock") as slow:
        await slow.execute("SET idle_in_transaction_session_timeout = 0")
        async with slow.transaction():
            await slow.execute(
                "INSERT INTO stock_movement (command_id, product_id, kind, quantity)"
                " VALUES ('late', 'P001', 'adjusted', 5)"
            )
            await slow.execute(
                "UPDATE product SET available = 15, received = 15, version = 2"
                " WHERE product_id = 'P001'"
            )
            # longer than the margin that every pass has
            await slow.execute("SELECT pg_sleep(0.6)")
            await stock.run(reserve_stock("o-1", items={"P002": 1}))
            recorder.take()
            await feed.run_once()
            await feed.run_once()
            assert recorder.take() == {"P002": (2, 9)}, "nothing that isn't committed is shown"
    await feed.run_once()
    assert recorder.take() == {"P001": (2, 15)}


async def test_a_transaction_that_somebody_forgot_does_not_make_passes_read_all_since(
    database: Database,
) -> None:
    async with (
        database.connection("stock") as looks,
        database.connection("stock") as forgotten,
        forgotten.transaction(),
    ):
        began_at = await forgotten.fetchval("SELECT now()")
        open_since = levels.queries.movements_open_since
        assert await open_since.value(looks, longest_s=30.0) < began_at
        await forgotten.execute("SELECT pg_sleep(0.5)")
        assert await open_since.value(looks, longest_s=0.1) > began_at


async def test_the_comparison_goes_through_all_in_pages(
    pool: Pool, stock: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new price moves no unit, but is a new version of the product."""
    monkeypatch.setattr(levels, "LEVELS_AT_ONCE", 3)
    puts: list[Any] = [put_product(f"P00{n}", quantity=10) for n in range(8)]
    await stock.run(*puts)
    recorder = Recorder()
    feed = feed_of(pool, recorder, compare_s=0.0)
    sent = [await feed.run_once() for _ in range(3)]
    assert sent == [3, 3, 2]
    recorder.take()
    await stock.run(put_product("P007", price=999))
    sent = [await feed.run_once() for _ in range(3)]
    assert sum(sent) == 1
    assert recorder.take() == {"P007": (2, 10)}


async def test_a_long_ledger_is_not_read(database: Database) -> None:
    """The plan of a pass takes the index on the ledger's times, also the one that is kept for all
    times after some runs."""
    async with database.connection("stock") as connection:
        await connection.execute(
            "INSERT INTO product VALUES ('P001', 'Lamp', 1, 'KRW', 'optimistic', 'postgres', NULL,"
            " $1, 0, 0, $1, 1)",
            LEDGER_ROWS,
        )
        await connection.execute(
            "INSERT INTO stock_movement (command_id, product_id, kind, quantity, at)"
            " SELECT 'c' || n, 'P001', 'received', 1, now() - ($1 - n) * interval '1 second'"
            " FROM generate_series(1, $1) AS n",
            LEDGER_ROWS,
        )
        await connection.execute("SELECT brin_summarize_new_values('stock_movement_at')")
        await connection.execute("ANALYZE stock_movement")
        await connection.execute(f"PREPARE moved AS {levels.queries.moved_since.sql}")
        execute = "EXECUTE moved (now() - interval '1 second')"
        for _ in range(8):
            await connection.execute(execute)
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {execute}"))
    assert "Bitmap Index Scan on stock_movement_at" in plan, plan
    assert "Seq Scan on stock_movement" not in plan, plan
