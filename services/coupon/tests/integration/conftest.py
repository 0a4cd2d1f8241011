"""Replicas of coupon in one process: the real pipeline on a real database, and no Kafka."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from coupon.consumers import routes
from coupon.doorkeeper import Doorkeeper
from coupon.drawer import Drawer
from coupon.gates import Gates
from coupon.locks import Locks
from coupon.reconciler import LEASE, Reconciler
from shared.audit.invariants import Source, audit
from shared.database import connect_pool
from shared.lease import Lease
from shared.pipeline.work import Work
from shared.testing import replicas
from shared.testing.module_valkeys import module_valkey, valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.pipeline import Delivery
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database
    from shared.testing.valkey import Valkey

__all__ = ["module_valkey", "valkey"]


class Replica:
    """One instance of coupon, whose answers are read."""

    def __init__(self, number: int, pool: Pool, redis_url: str, *, lease_s: float = 2.0) -> None:
        self.dead_letters: list[tuple[str, str]] = []
        """Topic and reason of each."""
        gates = Gates(redis_url)
        locks = Locks(gates, lambda: pool, lease_s=lease_s)
        self.doorkeeper = Doorkeeper(gates, locks, lambda: pool)
        self.reconciler = Reconciler(
            self.doorkeeper, pool, Lease(pool, LEASE, f"coupon-{number}", lease_s=30.0)
        )
        self._replica = replicas.Replica(f"coupon-{number}", pool, routes("KRW", self.doorkeeper))
        self._drawn = replicas.RecordingRelay(f"coupon-{number}")
        self._drawer = Drawer(Work(pool, cast("Relay", self._drawn), lease_s=30.0))

    async def issue_to_winners(self) -> list[dict[str, Any]]:
        """Issue one batch to the winners of drawn lotteries; returns what is said."""
        self._drawn.rows.clear()
        await self._drawer.run_once()
        return [json.loads(row.value or b"") for row in self._drawn.rows]

    async def run(self, *messages: Message) -> list[dict[str, Any]]:
        """Run one chunk of one group, and what follows it; returns what it answers, dead letters
        left out."""
        return await self.run_chunk(replicas.deliver(*messages))

    async def run_chunk(self, deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
        """The same of a chunk as it came off its partitions."""
        rows = await self._replica.run_chunk(deliveries)
        await self.doorkeeper.returns.give_back()
        answers = []
        for row in rows:
            if row.message_type == "DeadLetter":
                self.dead_letters.append((row.topic, (row.headers or {})["dlq-reason"]))
            else:
                answers.append(json.loads(row.value or b""))
        return answers


@dataclass
class Coupons:
    """The service on the test's own database, in as many replicas as are asked for."""

    database: Database
    pool: Pool
    valkey: Valkey
    replicas: dict[int, Replica] = field(default_factory=dict)

    def replica(
        self, number: int = 0, *, through: str | None = None, on: Pool | None = None, **how: Any
    ) -> Replica:
        """The instance of this number; where it is new, it sees Redis at `through`, and Postgres
        through the pool `on`."""
        if number not in self.replicas:
            url = through or self.valkey.url
            self.replicas[number] = Replica(number, on or self.pool, url, **how)
        return self.replicas[number]

    async def run(self, *messages: Message) -> list[dict[str, Any]]:
        """Run one chunk on the first replica."""
        return await self.replica().run(*messages)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.pool.fetch(sql)]

    async def violations(self) -> set[str]:
        """The invariants that don't hold."""
        sources = [Source("coupon", "coupon")]
        report = await audit(self.database.operator_dsn, sources, only_always=True)
        assert not [check.error for check in report.checks if check.error]
        return {check.name for check in report.violations}


@pytest.fixture
async def coupons(database: Database, valkey: Valkey) -> AsyncIterator[Coupons]:
    """Coupon on a database of the test's own."""
    async with connect_pool(database.dsn("coupon"), name="coupon-test", max_connections=12) as pool:
        world = Coupons(database, pool, valkey)
        yield world
        for replica in world.replicas.values():
            await replica.doorkeeper.gates.close()
