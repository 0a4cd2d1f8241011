"""Coupon's tables: one typed method for each named query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coupon.records import Campaign, Coupon, CouponState, Hold, HoldState
from shared.contracts.coupon import CampaignKind, CouponRefusal, DiscountType
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    import asyncpg

    from coupon.records import CouponKey
    from shared.database import Connection, Write

queries = Queries("coupon", "sql/queries.sql")


class Store:
    """Loads and saves chunks on one connection, inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work on `connection`."""
        self._connection = connection

    async def lock_holds(self, order_ids: Iterable[str]) -> list[Hold]:
        """The records of these orders that are there, locked in key order."""
        rows = await queries.lock_holds.rows(self._connection, order_ids=sorted(set(order_ids)))
        return [_hold(row) for row in rows]

    async def lock_campaigns(self, coupon_ids: Iterable[str]) -> list[Campaign]:
        """These campaigns as they are now, locked in key order."""
        rows = await queries.lock_campaigns.rows(self._connection, coupon_ids=sorted(coupon_ids))
        return [_campaign(row) for row in rows]

    async def read_campaigns(self, coupon_ids: Iterable[str]) -> list[Campaign]:
        """These campaigns as they are now, not locked."""
        rows = await queries.read_campaigns.rows(self._connection, coupon_ids=list(coupon_ids))
        return [_campaign(row) for row in rows]

    async def giving_by_gate(self) -> list[Campaign]:
        """Campaigns that a gate stands before, open and with coupons left, not locked."""
        return [_campaign(row) for row in await queries.giving_by_gate.rows(self._connection)]

    async def queue(self, coupon_ids: Iterable[str]) -> None:
        """Wait for this chunk's turn at these campaigns."""
        await queries.queue_campaigns.rows(self._connection, coupon_ids=list(coupon_ids))

    async def raise_fences(self, coupon_ids: Iterable[str]) -> dict[str, int]:
        """A fencing token for each of these campaigns that is there."""
        rows = await queries.raise_fences.rows(self._connection, coupon_ids=list(coupon_ids))
        return {row["coupon_id"]: row["fence"] for row in rows}

    async def lock_coupons(self, keys: Iterable[CouponKey]) -> list[Coupon]:
        """These coupons that are there, locked in key order."""
        rows = await queries.lock_coupons.rows(self._connection, **keys_of(sorted(keys)))
        return [_coupon(row) for row in rows]

    async def read_coupons(self, keys: Iterable[CouponKey]) -> list[Coupon]:
        """These coupons that are there, not locked."""
        rows = await queries.read_coupons.rows(self._connection, **keys_of(list(keys)))
        return [_coupon(row) for row in rows]

    async def read_clock(self) -> datetime:
        """The database's time at this moment, in whole milliseconds."""
        now: datetime = await queries.read_clock.value(self._connection)
        return now

    def insert_holds(self, holds: Sequence[Hold]) -> Write:
        """Saves decisions. Conflicts where another instance decided one of the orders."""
        return queries.insert_holds.write(
            len(holds),
            order_ids=[row.order_id for row in holds],
            states=[row.state for row in holds],
            coupon_ids=[row.coupon_id for row in holds],
            user_ids=[row.user_id for row in holds],
            totals=[row.total for row in holds],
            discounts=[row.discount for row in holds],
            refusals=[row.refusal for row in holds],
            useds=[row.used for row in holds],
        )

    def update_holds(self, holds: Sequence[Hold]) -> Write:
        """Saves the states of locked records."""
        return queries.update_holds.write(
            len(holds),
            order_ids=[row.order_id for row in holds],
            states=[row.state for row in holds],
            useds=[row.used for row in holds],
        )

    def insert_campaigns(self, campaigns: Sequence[Campaign]) -> Write:
        """Saves new campaigns. Conflicts where another instance put one of them."""
        return queries.insert_campaigns.write(len(campaigns), **_columns(campaigns))

    def update_campaigns(
        self, campaigns: Sequence[Campaign], asked_fences: Mapping[str, int]
    ) -> Write:
        """Saves locked campaigns. Conflicts where the fence of one isn't that at which it was
        asked about before, by `asked_fences`."""
        return queries.update_campaigns.write(
            len(campaigns),
            **_columns(campaigns),
            asked_fences=[asked_fences[row.coupon_id] for row in campaigns],
        )

    def insert_coupons(self, coupons: Sequence[Coupon]) -> Write:
        """Gives out coupons of locked campaigns."""
        return queries.insert_coupons.write(
            len(coupons),
            **keys_of([row.key for row in coupons]),
            sequences=[row.sequence for row in coupons],
            states=[row.state for row in coupons],
            order_ids=[row.order_id for row in coupons],
            issued_ats=[row.issued_at for row in coupons],
            partitions=[row.arrived and row.arrived.partition for row in coupons],
            offsets=[row.arrived and row.arrived.offset for row in coupons],
        )

    def update_coupons(self, coupons: Sequence[Coupon]) -> Write:
        """Saves where locked coupons are."""
        return queries.update_coupons.write(
            len(coupons),
            **keys_of([row.key for row in coupons]),
            states=[row.state for row in coupons],
            order_ids=[row.order_id for row in coupons],
        )


def keys_of(keys: Sequence[CouponKey]) -> dict[str, list[str]]:
    return {
        "coupon_ids": [coupon_id for coupon_id, _ in keys],
        "user_ids": [user_id for _, user_id in keys],
    }


def _columns(campaigns: Sequence[Campaign]) -> dict[str, list[Any]]:
    return {
        "coupon_ids": [row.coupon_id for row in campaigns],
        "kinds": [row.kind for row in campaigns],
        "limits": [row.limit for row in campaigns],
        "issueds": [row.issued for row in campaigns],
        "discount_types": [row.discount_type for row in campaigns],
        "discount_values": [row.discount_value for row in campaigns],
        "discount_caps": [row.discount_cap for row in campaigns],
        "currencies": [row.currency for row in campaigns],
        "starts_ats": [row.starts_at for row in campaigns],
        "ends_ats": [row.ends_at for row in campaigns],
        "expires_ats": [row.expires_at for row in campaigns],
        "rules": [row.rule for row in campaigns],
        "fences": [row.fence for row in campaigns],
        "seed_hashes": [row.seed_hash for row in campaigns],
        "entries_hashes": [row.entries_hash for row in campaigns],
        "seeds": [row.seed for row in campaigns],
        "entereds": [row.entered for row in campaigns],
        "drawn_ats": [row.drawn_at for row in campaigns],
        "winners": [row.winners for row in campaigns],
    }


def _campaign(row: asyncpg.Record) -> Campaign:
    (
        coupon_id, kind, limit, issued, discount_type, discount_value, discount_cap,
        currency, starts_at, ends_at, expires_at, rule, fence, seed_hash, entries_hash, seed,
        entered, drawn_at, winners,
    ) = row  # fmt: skip
    return Campaign(
        coupon_id, CampaignKind(kind), limit, issued, DiscountType(discount_type),
        discount_value, discount_cap, currency, starts_at, ends_at, expires_at, rule, fence,
        seed_hash, entries_hash, seed, entered, drawn_at, winners,
    )  # fmt: skip


def _coupon(row: asyncpg.Record) -> Coupon:
    coupon_id, user_id, sequence, state, order_id, issued_at = row
    return Coupon(coupon_id, user_id, sequence, CouponState(state), order_id, issued_at)


def _hold(row: asyncpg.Record) -> Hold:
    order_id, state, coupon_id, user_id, total, discount, refusal, used = row
    return Hold(
        order_id, HoldState(state), coupon_id, user_id, total, discount,
        None if refusal is None else CouponRefusal(refusal), used,
    )  # fmt: skip
