"""One database for the tests of a module, emptied after each, and chunks run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import pytest

from shared import backoff
from shared.pipeline.chunk import ChunkRunner
from shared.testing.module_databases import database, module_database, plain_logs
from shared.testing.replicas import LEASE_S, RecordingRelay

if TYPE_CHECKING:
    from shared.database import Pool
    from shared.pipeline import Route
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database

__all__ = ["database", "module_database", "plain_logs"]


class Bench:
    """A runner with its handler, its relay and its database."""

    def __init__(self, route: Route, pool: Pool, database: Database) -> None:
        self.relay = RecordingRelay("stock-0")
        self.pool = pool
        self.database = database
        self.runner = ChunkRunner(route, pool, cast("Relay", self.relay), lease_s=LEASE_S)

    async def effects(self) -> dict[str, int]:
        async with self.database.connection("stock") as connection:
            rows = await connection.fetch("SELECT order_id, units FROM effect")
        return {row["order_id"]: row["units"] for row in rows}

    async def count(self, table: str) -> int:
        async with self.database.connection("stock") as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


class MakeBench(Protocol):
    """The fixture `make_bench`."""

    def __call__(self, route: Route, pool: Pool) -> Bench: ...


@pytest.fixture
def make_bench(database: Database) -> MakeBench:
    """Makes benches on the test's database."""

    def make(route: Route, pool: Pool) -> Bench:
        return Bench(route, pool, database)

    return make


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits before it is tried again."""
    monkeypatch.setattr(backoff, "delay_s", lambda _: 0.0)
