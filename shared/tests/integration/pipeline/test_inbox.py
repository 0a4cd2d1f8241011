"""The inbox on Postgres: each (type, id) once, whoever else writes it."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

import pytest

from shared.pipeline import Conflict, inbox
from shared.testing import replicas
from shared.testing.builders import commit_stock, release_stock, reserve_stock
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from shared.contracts.base import Message
    from shared.pipeline.messages import Delivery
    from shared.testing.databases import Database

    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection("stock") as connection:
        yield connection


def deliver(*messages: Message) -> list[Delivery]:
    return replicas.deliver(*messages, offsets=count())


def duplicates(deliveries: list[Delivery]) -> list[bool]:
    return [delivery.duplicate for delivery in deliveries]


async def test_f1_a_message_is_new_once(connection: Connection) -> None:
    chunk = deliver(commit_stock("o-1"), release_stock("o-1"), commit_stock("o-2"))
    handled, refused = await inbox.remember(connection, chunk)
    assert (duplicates(handled), refused) == ([False] * 3, [])
    handled, refused = await inbox.remember(connection, chunk)
    assert (duplicates(handled), refused) == ([True] * 3, [])


async def test_f1_copies_within_a_chunk_keep_their_order(connection: Connection) -> None:
    await inbox.remember(connection, deliver(commit_stock("o-3")))
    chunk = deliver(
        commit_stock("o-2"), commit_stock("o-1"), commit_stock("o-2"), commit_stock("o-3")
    )
    handled, _ = await inbox.remember(connection, chunk)
    assert [one.received.offset for one in handled] == [0, 1, 2, 3]
    assert duplicates(handled) == [False, False, True, True]


async def test_an_id_with_other_content_is_refused_and_the_first_counts(
    connection: Connection,
) -> None:
    first = reserve_stock("o-1", items={"P1": 1})
    other = reserve_stock("o-1", items={"P1": 2})
    handled, refused = await inbox.remember(connection, deliver(other.model_copy(), first, other))
    assert [one.received.offset for one in handled] == [0, 2]  # in one chunk too
    assert [one.received.offset for one in refused] == [1]
    handled, refused = await inbox.remember(connection, deliver(first, other))
    assert [one.received.offset for one in handled] == [1]
    assert [(one.received.offset, one.reason) for one in refused] == [(0, "command_id_reused")]


async def test_a_refused_command_leaves_its_id_free(connection: Connection) -> None:
    chunk = deliver(commit_stock("o-1"), commit_stock("o-2"))
    await inbox.remember(connection, chunk)
    await inbox.forget(connection, chunk[:1])
    handled, _ = await inbox.remember(connection, chunk)
    assert duplicates(handled) == [False, True]


@pytest.mark.parametrize("first_commits", [True, False])
async def test_f15_the_second_of_two_instances_waits_for_the_first(
    connection: Connection, database: Database, first_commits: bool
) -> None:
    """It starts over where the first commits, and takes over where it rolls back."""
    chunk = deliver(commit_stock("o-1"), commit_stock("o-2"))
    async with database.connection("stock") as other:
        transaction = connection.transaction()
        await transaction.start()
        await inbox.remember(connection, chunk)
        # in another order: ids are inserted sorted, so that the two can't wait for each other
        second = asyncio.create_task(inbox.remember(other, chunk[::-1]))
        await eventually(lambda: waiting(database), accept=lambda count: count == 1)
        assert not second.done()
        await (transaction.commit() if first_commits else transaction.rollback())
        if first_commits:
            with pytest.raises(Conflict):
                await second
            second = asyncio.create_task(inbox.remember(other, chunk))
        handled, refused = await second
        assert duplicates(handled) == [first_commits] * 2
        assert refused == []


async def waiting(database: Database) -> int:
    """How many statements wait for a lock."""
    async with database.connection() as admin:
        return int(
            await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = $1 AND wait_event_type = 'Lock'",
                database.name,
            )
        )


async def test_f48_chunks_of_the_same_ids_in_inverse_order_never_deadlock(
    connection: Connection, database: Database
) -> None:
    """Both wait in the middle for a third; had each written its first id by then, they would hold
    what the other wants next."""
    chunk = deliver(commit_stock("o-1"), commit_stock("o-5"), commit_stock("o-9"))
    async with database.connection("stock") as first, database.connection("stock") as second:
        holder = connection.transaction()
        await holder.start()
        await inbox.remember(connection, chunk[1:2])

        async def remember(own: Connection, deliveries: list[Delivery]) -> list[bool]:
            try:
                async with own.transaction():
                    handled, _ = await inbox.remember(own, deliveries)
            except Conflict:
                handled, _ = await inbox.remember(own, deliveries)
            return duplicates(handled)

        tasks = [
            asyncio.create_task(remember(first, chunk)),
            asyncio.create_task(remember(second, chunk[::-1])),
        ]
        await eventually(lambda: waiting(database), accept=lambda count: count == 2)
        await holder.rollback()
        found = await asyncio.gather(*tasks)
    assert sorted(found) == [[False] * 3, [True] * 3]
