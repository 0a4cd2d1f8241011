"""Replicas of coupon in one process: the real pipeline on a real database, and no Kafka."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from coupon.consumers import routes
from shared.audit.invariants import Source, audit
from shared.database import connect_pool
from shared.testing import replicas

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.testing.databases import Database


class Replica:
    """One instance of coupon, whose answers are read."""

    def __init__(self, number: int, pool: Pool) -> None:
        self.dead_letters: list[tuple[str, str]] = []
        """Topic and reason of each."""
        self._replica = replicas.Replica(f"coupon-{number}", pool, routes("KRW"))

    async def run(self, *messages: Message) -> list[dict[str, Any]]:
        """Run one chunk of one group; returns what it answers, dead letters left out."""
        answers = []
        for row in await self._replica.run(*messages):
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
    replicas: dict[int, Replica] = field(default_factory=dict)

    def replica(self, number: int = 0) -> Replica:
        if number not in self.replicas:
            self.replicas[number] = Replica(number, self.pool)
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
async def coupons(database: Database) -> AsyncIterator[Coupons]:
    """Coupon on a database of the test's own."""
    async with connect_pool(database.dsn("coupon"), name="coupon-test", max_connections=12) as pool:
        yield Coupons(database, pool)
