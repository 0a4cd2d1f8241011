"""What would go wrong at the level below, or without the protection, and that it doesn't here.

Each pair is one interleaving of two transactions: docs/isolation.md has the table.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from coupon import api
from coupon.records import Coupon, CouponState
from coupon.store import Store, queries
from shared.contracts.coupon import CampaignKind
from shared.database import write_all
from shared.testing.builders import issue_coupon, put_campaign
from shared.testing.interleaving import Level, stopping_pool

if TYPE_CHECKING:
    from .conftest import Coupons

ROOM = "SELECT count(*) < 1 FROM coupon WHERE coupon_id = 'C'"


async def issue_without_lock(coupons: Coupons, level: Level) -> None:
    """A campaign of one coupon: two transactions see that none was given out, and each gives one to
    its user. No row that one writes is read by the other."""
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(coupons.database.connection("coupon")) for _ in range(2)
        ]
        transactions = [one.transaction(isolation=level) for one in connections]
        for connection, transaction in zip(connections, transactions, strict=True):
            await transaction.start()
            assert await connection.fetchval(ROOM)
        for number, connection in enumerate(connections, 1):
            now = datetime.now(UTC)
            coupon = Coupon("C", f"u{number}", number, CouponState.ISSUED, None, now)
            await write_all(connection, [Store(connection).insert_coupons([coupon])])
        for transaction in transactions:
            await transaction.commit()


class TestWriteSkew:
    """Each sees room for one more: the campaign's row is locked, and counts."""

    @pytest.mark.parametrize("level", ["read_committed", "repeatable_read"])
    async def test_without_the_lock_one_coupon_goes_to_two_users(
        self, coupons: Coupons, level: Level
    ) -> None:
        await coupons.run(put_campaign("C", limit=1))
        await issue_without_lock(coupons, level)
        assert await coupons.rows("SELECT count(*) FROM coupon") == [(2,)]
        assert await coupons.violations() != set()

    async def test_serializable_turns_the_second_back(self, coupons: Coupons) -> None:
        await coupons.run(put_campaign("C", limit=1))
        with pytest.raises(asyncpg.SerializationError):
            await issue_without_lock(coupons, "serializable")
        assert await coupons.rows("SELECT count(*) FROM coupon") == [(1,)]

    async def test_ours_looks_at_the_locked_row(self, coupons: Coupons) -> None:
        """The second has seen room as well, before its transaction."""
        await coupons.run(put_campaign("C", limit=1, kind=CampaignKind.QUEUED))
        dsn = coupons.database.dsn("coupon")
        async with stopping_pool(dsn, after=queries.read_campaigns) as (pool, gate):
            late = coupons.replica(1, on=pool)
            asking = asyncio.create_task(late.run(issue_coupon("C", user_id="u2")))
            await gate.reached()
            (won,) = await coupons.run(issue_coupon("C", user_id="u1"))
            gate.open()
            (lost,) = await asking
        assert (won["type"], won["sequence"]) == ("CouponIssued", 1)
        assert (lost["type"], lost["reason"]) == ("CouponRefused", "sold_out")
        assert await coupons.violations() == set()


class TestTornPage:
    """A campaign with its coupons counted, while one is given out between the two statements."""

    async def read(self, coupons: Coupons, level: Level | None) -> tuple[int, int]:
        """What the campaign's row says was issued, and what the states of its coupons add up to."""
        await coupons.run(put_campaign("C", limit=5, kind=CampaignKind.QUEUED))
        dsn = coupons.database.dsn("coupon")
        after = api.queries.read_campaigns
        async with stopping_pool(dsn, after=after, level=level) as (pool, gate):
            reading = asyncio.create_task(api.CampaignsApi(pool)._read_campaign("C"))
            await gate.reached()
            await coupons.run(issue_coupon("C", user_id="u1"))
            gate.open()
            found: Any = await reading
        return found["issued"], sum(found["coupons"].values())

    async def test_at_read_committed_the_sums_differ(self, coupons: Coupons) -> None:
        assert await self.read(coupons, "read_committed") == (0, 1)

    async def test_ours_is_of_one_moment(self, coupons: Coupons) -> None:
        assert await self.read(coupons, None) == (0, 0)
