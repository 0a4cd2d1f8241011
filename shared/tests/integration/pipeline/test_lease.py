"""One holder at a time, by the database's clock, with a token that rises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.database import connect_pool
from shared.lease import Lease

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Pool
    from shared.testing.databases import Database


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock", max_connections=8) as pool:
        yield pool


async def end(pool: Pool, name: str = "feed") -> None:
    """What the passing of time does."""
    await pool.execute("UPDATE lease SET until = now() - interval '1 ms' WHERE name = $1", name)


async def test_one_holds_it_until_it_ends(pool: Pool) -> None:
    first, second = (Lease(pool, "feed", f"stock-{n}", lease_s=30.0) for n in range(2))
    assert await first.take() == 1
    assert await second.take() is None
    assert await first.take() == 1, "renewed, not taken anew"
    await end(pool)
    assert await second.take() == 2
    assert await first.take() is None


async def test_who_comes_back_has_a_new_token_only_where_another_held_it(pool: Pool) -> None:
    first, second = (Lease(pool, "feed", f"stock-{n}", lease_s=30.0) for n in range(2))
    await first.take()
    await end(pool)
    assert await first.take() == 1
    await end(pool)
    assert await second.take() == 2
    await end(pool)
    assert await first.take() == 3


async def test_of_many_at_once_one_gets_it(pool: Pool) -> None:
    tokens = await asyncio.gather(
        *(Lease(pool, "feed", f"stock-{n}", lease_s=30.0).take() for n in range(8))
    )
    assert sorted(token for token in tokens if token is not None) == [1]


async def test_leases_have_names(pool: Pool) -> None:
    assert await Lease(pool, "feed", "stock-0", lease_s=30.0).take() == 1
    assert await Lease(pool, "other", "stock-1", lease_s=30.0).take() == 1
