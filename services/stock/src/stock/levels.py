"""The real-time feed `stock.levels.v1`: each product's counters, by one lease holder.

A level is state, read when it is sent. What changes several times within an interval is sent
once, and what changed last is always sent, because the holder compares versions and not events.
A holder that stood still past its lease may send an older level after its successor sent a newer
one: it says so, and whoever holds the lease then sends every level again.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.contracts.stock import StockLevel
from shared.database.pool import ACQUIRE_TIMEOUT_S
from shared.kafka.publisher import Record
from stock.metrics import LEVELS
from stock.store import queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import asyncpg

    from shared.database import Pool
    from shared.kafka.publisher import Publisher
    from shared.lease import Lease

TOPIC = "stock.levels.v1"
LEVELS_AT_ONCE = 5_000


def due(rows: Iterable[asyncpg.Record], sent: Mapping[str, int]) -> list[asyncpg.Record]:
    """The rows whose version was not sent yet, at most `LEVELS_AT_ONCE`."""
    changed = [row for row in rows if sent.get(row["product_id"]) != row["version"]]
    return changed[:LEVELS_AT_ONCE]


class LevelFeed:
    """Publishes levels while it holds the lease; with a new token it sends every level once."""

    def __init__(self, pool: Pool, lease: Lease, publisher: Publisher, *, lease_s: float) -> None:
        """`lease_s` is the lease's own length: it is renewed at a third of it."""
        self._pool = pool
        self._lease = lease
        self._publisher = publisher
        self._lease_s = lease_s
        self._renewed_at_s = float("-inf")
        self._token: int | None = None
        self._sent: dict[str, int] = {}

    async def run_once(self) -> int:
        """Send what changed since the last pass; returns how many levels."""
        now_s = time.monotonic()
        if now_s - self._renewed_at_s >= self._lease_s / 3:
            token = await self._lease.take()
            self._renewed_at_s = now_s
            if token != self._token:
                self._sent.clear()
            self._token = token
        if self._token is None:
            return 0
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            rows = due(await queries.read_levels.rows(connection), self._sent)
        if rows:
            await self._publisher.publish([_record(row) for row in rows])
            if time.monotonic() - self._renewed_at_s > self._lease_s:
                await self._lease.acted_late()
            self._sent.update((row["product_id"], row["version"]) for row in rows)
            LEVELS.inc(len(rows))
        return len(rows)


def _record(row: asyncpg.Record) -> Record:
    at = datetime.now(UTC)
    level = StockLevel(at=at, **dict(row))
    return Record(
        TOPIC,
        level.product_id.encode(),
        level.to_bytes(),
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", level.level_id.encode()),
            ("ce_type", b"StockLevel"),
            ("ce_source", b"stock"),
            ("ce_subject", level.product_id.encode()),
            ("content-type", b"application/json"),
        ],
        int(at.timestamp() * 1000),
    )
