"""The real-time feed `stock.levels.v1`: each product's counters, by one lease holder.

A level is state, read when it is sent. What changes several times within an interval is sent
once, and what changed last is always sent, because the holder compares versions and not events.

A pass costs what changed: it looks at the products that moved since the oldest transaction began
that was open when the pass before looked. Beside that the holder compares all products with what it
sent, a page a pass and from time to time: that finds what changes without a movement, as a price
does, and whatever else would be missed.

A holder that stood still past its lease may send an older level after its successor sent a newer
one: it says so, and whoever holds the lease then sends every level again.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from shared.contracts.stock import StockLevel
from shared.database import Queries
from shared.kafka.cloudevents import record_of
from stock.metrics import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import asyncpg

    from shared.database import Connection, Pool
    from shared.kafka.publisher import Publisher, Record
    from shared.lease import Lease

TOPIC: Final = "stock.levels.v1"
LEVELS_AT_ONCE: Final = 5_000
"""Sent by one pass, and compared by one."""

LONGEST_CHUNK_S: Final = 30.0
"""What a transaction moves that is open for longer is left to the comparison."""

queries: Final = Queries("stock", "sql/levels.sql")


def due(rows: Iterable[asyncpg.Record], sent: Mapping[str, int]) -> list[asyncpg.Record]:
    """The rows whose version was not sent."""
    return [row for row in rows if sent.get(row["product_id"]) != row["version"]]


class LevelFeed:
    """Publishes levels while it holds the lease; with a new token it sends every level once."""

    def __init__(
        self, pool: Pool, lease: Lease, publisher: Publisher, *, lease_s: float, compare_s: float
    ) -> None:
        """`lease_s` is the lease's own length: it is renewed at a third of it. A comparison of all
        products begins `compare_s` after the last one ended."""
        self._pool = pool
        self._lease = lease
        self._publisher = publisher
        self._lease_s = lease_s
        self._compare_s = compare_s
        self._renewed_at_s = float("-inf")
        self._token: int | None = None
        self._sent: dict[str, int] = {}
        """By product: the version that the topic shows."""
        self._waiting: dict[str, None] = {}
        """Products that were seen under another version, in the order in which they were."""
        self._since: datetime | None = None
        """Movements before were seen."""
        self._compared_to: str | None = ""
        """The product up to which the comparison under way has come."""
        self._compared_at_s = float("-inf")

    async def run_once(self) -> int:
        """Send what changed since the last pass; returns how many levels."""
        await self._renew()
        if self._token is None:
            return 0
        async with self._pool.acquire() as connection:
            await self._find_moved(connection)
            await self._compare_page(connection)
            batch = list(islice(self._waiting, LEVELS_AT_ONCE))
            found = await queries.read_levels.rows(connection, product_ids=batch) if batch else []
        if rows := due(found, self._sent):
            await self._publisher.publish([_record(row) for row in rows])
            if time.monotonic() - self._renewed_at_s > self._lease_s:
                await self._lease.acted_late()
            self._sent.update((row["product_id"], row["version"]) for row in rows)
            LEVELS.inc(len(rows))
        for product_id in batch:
            del self._waiting[product_id]
        return len(rows)

    async def _renew(self) -> None:
        now_s = time.monotonic()
        if now_s - self._renewed_at_s < self._lease_s / 3:
            return
        token = await self._lease.take()
        self._renewed_at_s = now_s
        if token != self._token:
            self._sent.clear()
            self._waiting.clear()
            self._since, self._compared_to = None, ""
        self._token = token

    async def _find_moved(self, connection: Connection) -> None:
        """Without a time to begin at, the comparison that begins with it finds what was before."""
        open_since: datetime = await queries.movements_open_since.value(
            connection, longest_s=LONGEST_CHUNK_S
        )
        if self._since is not None:
            self._wait(await queries.moved_since.rows(connection, since=self._since))
        # the clock may have stepped back: no time but the last counts
        self._since = open_since

    async def _compare_page(self, connection: Connection) -> None:
        if self._compared_to is None:
            if time.monotonic() - self._compared_at_s < self._compare_s:
                return
            self._compared_to = ""
        if len(self._waiting) >= LEVELS_AT_ONCE:
            return  # the pass is full
        page = await queries.read_versions.rows(
            connection, after=self._compared_to, products=LEVELS_AT_ONCE
        )
        self._wait(page)
        self._compared_to = page[-1]["product_id"] if len(page) == LEVELS_AT_ONCE else None
        self._compared_at_s = time.monotonic()

    def _wait(self, rows: Iterable[asyncpg.Record]) -> None:
        self._waiting.update((row["product_id"], None) for row in due(rows, self._sent))


def level_of(row: asyncpg.Record) -> StockLevel:
    """The level of a product as its row says now."""
    return StockLevel(at=datetime.now(UTC), **dict(row))


def _record(row: asyncpg.Record) -> Record:
    level = level_of(row)
    return record_of(TOPIC, level, "stock", level.at)
