"""The outbox on Postgres: written with the effects, claimed by one, marked by chunk, deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.pipeline import outbox
from shared.pipeline.outbox import Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from shared.testing.databases import Database

    Connection = asyncpg.Connection[asyncpg.Record]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection("stock") as connection:
        yield connection


def internal(name: str) -> Row:
    return Row("stock.replies.v1", b"o-1", "StockCommitted", name, b'{"n":1}', TRACE)


def public(name: str) -> Row:
    headers = {"dlq-reason": "invalid", "dlq-error": "수량"}
    return Row("stock.dlq.v1", None, "DeadLetter", name, None, TRACE, headers)


async def write(
    connection: Connection, *rows: Row, owner: str = "stock-0", lease_s: float = 30.0
) -> list[int]:
    chunks = await outbox.write_outbox(connection, rows, owner=owner, lease_s=lease_s)
    return [chunk.chunk_id for chunk in chunks]


async def claim(
    connection: Connection,
    owner: str = "stock-0",
    *,
    own_grace_s: float = 0.0,
    in_memory: tuple[int, ...] = (),
    limit_chunks: int = 50,
) -> list[outbox.Chunk]:
    return await outbox.claim_unpublished(
        connection, owner=owner, lease_s=30.0, own_grace_s=own_grace_s, in_memory=in_memory,
        limit_chunks=limit_chunks,
    )  # fmt: skip


def ids(chunks: list[outbox.Chunk]) -> list[int]:
    return [chunk.chunk_id for chunk in chunks]


async def test_rows_come_back_as_they_were_written(connection: Connection) -> None:
    rows = [internal("a"), public("d"), internal("b"), internal("a")]
    written = await write(connection, *rows)
    assert len(written) == 2, "internal and public rows are kept for different times"
    first, second = await claim(connection)
    assert list(first.rows) == [internal("a"), internal("b"), internal("a")]
    assert list(second.rows) == [public("d")]
    assert first.created_at.tzinfo is not None


async def test_any_bytes_of_a_dead_letter_come_back(connection: Connection) -> None:
    text = '\ud55c\u2028\\u0000\n"'.encode()
    odd = (None, b"", b"\xff\xfe", b"a\x00b", b'{"base64": "x"}', text)
    rows = [
        Row("stock.dlq.v1", key, "DeadLetter", f"{n}", value, TRACE, {"dlq-error": '\x7f\n"'})
        for n, (key, value) in enumerate((key, value) for key in odd for value in odd)
    ]
    await write(connection, *rows)
    (chunk,) = await claim(connection)
    assert list(chunk.rows) == rows
    seen = await connection.fetch("SELECT * FROM outbox_message ORDER BY position")
    assert [row["message_id"] for row in seen] == [row.message_id for row in rows]


async def test_nothing_is_written_for_nothing(connection: Connection) -> None:
    assert await write(connection) == []
    assert await outbox.backlog(connection) == (0, 0.0)


async def test_what_is_rolled_back_was_never_said(connection: Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await write(connection, internal("a"))
    await transaction.rollback()
    assert await claim(connection) == []


async def test_a_chunk_is_its_owners_until_its_lease_ends(connection: Connection) -> None:
    (leased,) = await write(connection, internal("a"), owner="stock-1")
    (left,) = await write(connection, internal("b"), owner="stock-1", lease_s=-1.0)
    assert ids(await claim(connection, "stock-0")) == [left]
    # the claim is a lease of its own
    assert ids(await claim(connection, "stock-2")) == []
    assert ids(await claim(connection, "stock-1")) == [leased]


async def test_an_instance_leaves_its_relay_what_is_young_or_in_its_memory(
    connection: Connection,
) -> None:
    young, held, left = [(await write(connection, internal(name)))[0] for name in "abc"]
    assert ids(await claim(connection, own_grace_s=3.0)) == []
    await connection.execute(
        "UPDATE outbox SET created_at = created_at - interval '4 s' WHERE chunk_id <> $1",
        young,
    )
    assert ids(await claim(connection, own_grace_s=3.0, in_memory=(held,))) == [left]


async def test_f37_a_claim_is_bounded_and_takes_the_oldest_first(connection: Connection) -> None:
    written = [(await write(connection, internal(str(n))))[0] for n in range(7)]
    assert ids(await claim(connection, limit_chunks=3)) == written[:3]


async def test_f35_a_chunk_is_claimed_by_one_of_many(
    connection: Connection, database: Database
) -> None:
    written = [
        (await write(connection, internal(str(n)), owner="gone", lease_s=-1.0))[0]
        for n in range(60)
    ]

    async def sweeper(number: int) -> list[int]:
        claimed: list[int] = []
        async with database.connection("stock") as own:
            while batch := ids(await claim(own, f"stock-{number}", own_grace_s=3, limit_chunks=7)):
                claimed += batch
        return claimed

    claimed = await asyncio.gather(*map(sweeper, range(4)))
    assert sorted(chunk for batch in claimed for chunk in batch) == written


async def test_f36_a_low_id_that_commits_late_is_not_passed_over(
    connection: Connection, database: Database
) -> None:
    async with database.connection("stock") as slow:
        transaction = slow.transaction()
        await transaction.start()
        (low,) = await write(slow, internal("low"))
        (high,) = await write(connection, internal("high"))
        assert low < high
        assert ids(await claim(connection)) == [high]
        await outbox.mark_published(connection, [high])
        await transaction.commit()
    assert ids(await claim(connection)) == [low]


async def test_a_marked_chunk_is_over(connection: Connection) -> None:
    written = await write(connection, internal("a"), public("b"))
    await outbox.mark_published(connection, written)
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1, "the internal one is over"
    at = await connection.fetch("SELECT published_at FROM outbox ORDER BY chunk_id")
    await outbox.mark_published(connection, written)  # a late relay changes nothing
    assert at == await connection.fetch("SELECT published_at FROM outbox ORDER BY chunk_id")
    assert await claim(connection) == []
    assert await outbox.backlog(connection) == (0, 0.0)


async def test_internal_rows_go_at_once_and_public_ones_are_kept(connection: Connection) -> None:
    written = await write(connection, internal("a"), public("b"))
    await write(connection, internal("unpublished"))
    await outbox.mark_published(connection, written)

    async def delete(keep_s: float) -> int:
        return await outbox.delete_published(connection, keep_s=keep_s, limit_chunks=50)

    async def left() -> list[str]:
        return [
            row["message_id"]
            for row in await connection.fetch(
                "SELECT message_id FROM outbox_message ORDER BY message_id"
            )
        ]

    assert await left() == ["b", "unpublished"]
    assert await delete(keep_s=86_400.0) == 0
    await connection.execute(
        "UPDATE outbox SET published_at = now() - interval '25 h' WHERE public"
    )
    assert await delete(keep_s=86_400.0) == 1
    assert await left() == ["unpublished"]


async def test_f37_deleting_is_bounded(connection: Connection) -> None:
    for number in range(5):
        await outbox.mark_published(connection, await write(connection, public(str(number))))
    deleted = [
        await outbox.delete_published(connection, keep_s=-1.0, limit_chunks=2) for _ in range(4)
    ]
    assert deleted == [2, 2, 1, 0]


async def test_f37_the_backlog_tells_its_size_up_to_a_limit_and_its_age(
    connection: Connection,
) -> None:
    for number in range(4):
        await write(connection, internal(str(number)))
    await connection.execute("UPDATE outbox SET created_at = now() - interval '90 s'")
    chunks, age_s = await outbox.backlog(connection, limit=3)
    assert chunks == 3
    assert 89 < age_s < 120
