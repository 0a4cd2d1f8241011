"""Replicas of coupon in one process: the real pipeline on a real database, and no Kafka."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest

from coupon.consumers import routes
from shared.audit.invariants import Source, audit
from shared.contracts.base import Message, fingerprint, message_id
from shared.contracts.topics import GROUPS, TOPICS
from shared.database import connect_pool
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.messages import Delivery, Received

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.database import Pool
    from shared.pipeline.outbox import Chunk, Row
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOPIC_OF = {
    message.model_fields["type"].default: topic
    for group in ("coupon", "coupon-requests")
    for topic in GROUPS[group]
    for message in TOPICS[topic].messages
}
_offsets = count()


@dataclass
class Recorder:
    """Stands where the relay does: what a commit hands over is kept and published to nobody."""

    owner: str
    rows: list[Row] = field(default_factory=list)

    def submit(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self.rows.extend(chunk.rows)


class Replica:
    """One instance of coupon, without Kafka."""

    def __init__(self, name: str, pool: Pool) -> None:
        self._recorder = Recorder(name)
        relay = cast("Relay", self._recorder)
        self._runners = {
            topic: ChunkRunner(route, pool, relay, lease_s=30.0)
            for route in routes("KRW")
            for topic in route.topics
        }

    async def run(self, *messages: Message) -> list[dict[str, Any]]:
        """Run one chunk of one group; returns what it answers, dead letters left out."""
        before = len(self._recorder.rows)
        runner = self._runners[TOPIC_OF[messages[0].type]]
        await runner.run([_delivery(message) for message in messages], ())
        rows = self._recorder.rows[before:]
        return [json.loads(row.value or b"") for row in rows if row.message_type != "DeadLetter"]

    @property
    def dead_letters(self) -> list[tuple[str, str]]:
        """Topic and reason of each."""
        return [
            (row.topic, (row.headers or {})["dlq-reason"])
            for row in self._recorder.rows
            if row.message_type == "DeadLetter"
        ]


@dataclass
class Coupons:
    """The service on the test's own database, in as many replicas as are asked for."""

    database: Database
    pool: Pool
    replicas: dict[int, Replica] = field(default_factory=dict)

    def replica(self, number: int = 0) -> Replica:
        if number not in self.replicas:
            self.replicas[number] = Replica(f"coupon-{number}", self.pool)
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


def _delivery(message: Message) -> Delivery:
    """The message as it comes off its topic."""
    topic = TOPIC_OF[message.type]
    key = TOPICS[topic].key_of(message).encode()
    received = Received(topic, 0, next(_offsets), 0, key, message.to_bytes(), TRACEPARENT)
    return Delivery(message, message_id(message), fingerprint(message), received, TRACEPARENT)
