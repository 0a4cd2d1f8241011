"""Sweepers: nothing that a crash left stays unpublished, and keys keep their order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from aiokafka.errors import KafkaConnectionError

from shared.database import connect_pool
from shared.pipeline import outbox, sweeper
from shared.pipeline.outbox import Row
from shared.pipeline.relay import Relay
from shared.pipeline.sweeper import InboxJanitor, Janitor, Sweeper
from shared.telemetry import metrics
from shared.testing.signals import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.database import Pool
    from shared.kafka.publisher import Record
    from shared.testing.databases import Database

PUBLISH_TIMEOUT_S = 15.0


class Broker:
    """Takes what is published, in order; stops at the gate where there is one."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.gate: Gate | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        if self.gate is not None:
            await self.gate.stop()
        if self.error is not None:
            raise self.error
        self.batches.append(len(records))
        self.records.extend(records)

    def by_key(self) -> dict[bytes | None, list[str]]:
        found: dict[bytes | None, list[str]] = defaultdict(list)
        for record in self.records:
            found[record.key].append(dict(record.headers)["ce_id"].decode())
        return found


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock", max_connections=8) as pool:
        yield pool


def instance(number: int, pool: Pool, broker: Broker, *, lease_s: float = 30.0) -> Sweeper:
    relay = Relay(
        f"stock-{number}", "stock", pool, broker,  # type: ignore[arg-type]
        memory_messages=100,
    )  # fmt: skip
    return Sweeper(pool, relay, lease_s=lease_s)


async def write(
    pool: Pool, number: int, *, owner: str, lease_s: float = -1.0, topic: str = "stock.replies.v1"
) -> None:
    """A chunk of three messages; two chunks in a row share a key."""
    rows = [Row(topic, b"k%d" % (number // 2), "T", f"{number}.{at}", b"{}", "") for at in range(3)]
    async with pool.acquire() as connection:
        await outbox.write_outbox(connection, rows, owner=owner, lease_s=lease_s)


async def pending(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"))


async def test_a_started_instance_takes_its_own_at_once_and_others_after_their_lease(
    pool: Pool,
) -> None:
    broker = Broker()
    await write(pool, 0, owner="stock-0", lease_s=30.0)
    await write(pool, 1, owner="stock-1", lease_s=30.0)
    await write(pool, 2, owner="stock-2", lease_s=-1.0)
    started = instance(0, pool, broker)
    assert (await started.run_once()).chunks == 2
    await write(pool, 3, owner="stock-0", lease_s=30.0)
    # by now its relay is at work, and gets the time that it needs
    assert (await started.run_once()).chunks == 0
    assert sorted(broker.by_key()[b"k0"] + broker.by_key()[b"k1"]) == [
        "0.0", "0.1", "0.2", "2.0", "2.1", "2.2",
    ]  # fmt: skip


async def test_f35_three_sweepers_one_of_them_frozen_lose_nothing(pool: Pool) -> None:
    """The frozen one is overtaken once its lease ends, and its late work is a duplicate."""
    for number in range(120):
        await write(pool, number, owner="gone")
    frozen_broker, broker = Broker(), Broker()
    frozen_broker.gate = Gate("publish")
    frozen = instance(0, pool, frozen_broker, lease_s=0.2)
    asleep = asyncio.create_task(frozen.run_once())
    await frozen_broker.gate.reached()

    async def sweep(number: int) -> None:
        own = instance(number, pool, broker)
        async with asyncio.timeout(20):
            while await pending(pool):
                if not (await own.run_once()).chunks:
                    await asyncio.sleep(0.05)  # until the lease of the frozen one ends

    await asyncio.gather(sweep(1), sweep(2))
    assert len(broker.records) == 360, "each message once, the frozen one's too"
    for names in broker.by_key().values():
        within = [name for name in names if name.startswith(names[0].split(".")[0] + ".")]
        assert within == sorted(within)
    frozen_broker.gate.open()
    await asleep
    assert await pending(pool) == 0
    assert set(frozen_broker.by_key()) <= set(broker.by_key())


async def test_f35_one_sweeper_keeps_the_order_of_each_key(pool: Pool) -> None:
    for number in range(200):
        await write(pool, number, owner="gone")
    broker = Broker()
    own = instance(0, pool, broker)
    while (await own.run_once()).more:
        pass
    for number in range(100):
        assert broker.by_key()[b"k%d" % number] == [
            f"{chunk}.{at}" for chunk in (2 * number, 2 * number + 1) for at in range(3)
        ]


async def test_f37_a_large_backlog_is_swept_in_bounded_batches(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO outbox (owner, public, created_at, lease_until, messages)"
            " SELECT 'gone', false, now() - interval '1 h', now(), ("
            "  SELECT json_agg(json_build_array('stock.replies.v1', NULL, 'T',"
            "                                   chunk || '.' || position, '', '{}'))"
            "  FROM generate_series(1, 20) AS position)"
            " FROM generate_series(1, 3000) AS chunk"
        )
    broker = Broker()
    own = instance(0, pool, broker)
    swept = await own.run_once()
    assert swept == sweeper.Swept(sweeper.CHUNKS_AT_ONCE, more=True)
    assert metrics.OUTBOX_PENDING._value.get() == 1_000, "counted up to a bound"
    assert metrics.OUTBOX_OLDEST_AGE._value.get() > 3_590
    passes = 1
    while (await own.run_once()).more:
        passes += 1
    assert passes == 3_000 / sweeper.CHUNKS_AT_ONCE
    assert max(broker.batches) == 20 * sweeper.CHUNKS_AT_ONCE
    assert len(broker.records) == 60_000
    assert await pending(pool) == 0
    await own.run_once()
    assert metrics.OUTBOX_PENDING._value.get() == 0
    assert metrics.OUTBOX_OLDEST_AGE._value.get() == 0


async def test_f41_what_could_not_be_published_is_tried_again(pool: Pool) -> None:
    await write(pool, 0, owner="stock-0")
    broker = Broker()
    broker.error = KafkaConnectionError()
    own = instance(0, pool, broker)
    with pytest.raises(KafkaConnectionError):
        await own.run_once()
    broker.error = None
    assert (await own.run_once()).chunks == 1
    assert await pending(pool) == 0


async def test_f34_what_was_published_and_not_marked_is_published_again(pool: Pool) -> None:
    await write(pool, 0, owner="stock-0", lease_s=30.0)
    broker = Broker()
    died = instance(0, pool, broker)
    (chunk,) = await _claim(pool)
    await died._relay.publish([chunk])  # and then it died
    restarted = instance(0, pool, broker)
    assert (await restarted.run_once()).chunks == 1
    assert broker.by_key() == {b"k0": ["0.0", "0.1", "0.2"] * 2}


async def _claim(pool: Pool) -> list[outbox.Chunk]:
    async with pool.acquire() as connection:
        return await outbox.claim_unpublished(
            connection, owner="stock-0", lease_s=30, own_grace_s=0, in_memory=[], limit_chunks=9
        )


async def test_the_janitor_deletes_what_is_over(pool: Pool) -> None:
    broker = Broker()
    for number in range(3):
        await write(pool, number, owner="stock-0", topic="stock.events.v1")
    await instance(0, pool, broker).run_once()
    await write(pool, 4, owner="stock-0")
    assert await Janitor(pool, keep_public_s=3_600).run_once() == sweeper.Swept(0, more=False)
    assert await Janitor(pool, keep_public_s=-1).run_once() == sweeper.Swept(3, more=False)
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 1
    assert await pending(pool) == 1


async def test_the_inbox_forgets_the_old_in_bounded_batches_and_no_answers(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "DELETED_INBOX_ROWS_AT_ONCE", 4)
    await pool.execute(
        "INSERT INTO inbox SELECT 'T', n::text, decode(repeat('00', 16), 'hex'),"
        " now() - n * interval '1 day',"
        " CASE WHEN n = 9 THEN '[]'::jsonb END FROM generate_series(1, 9) AS n"
    )
    janitor = InboxJanitor(pool, keep_inbox_s=3.5 * 86_400)
    assert await janitor.run_once() == sweeper.Swept(4, more=True)
    assert await janitor.run_once() == sweeper.Swept(1, more=False)
    left = await pool.fetch("SELECT message_id FROM inbox ORDER BY 1")
    assert [row["message_id"] for row in left] == ["1", "2", "3", "9"]
