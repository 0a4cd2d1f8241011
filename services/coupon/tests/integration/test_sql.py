"""The statements, the constraints and the invariants, against the migrated schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from coupon.store import queries
from shared.audit import invariants

if TYPE_CHECKING:
    from shared.testing.databases import Database

Coupons: TypeAlias = Any  # of conftest.py

CAMPAIGN = (
    "INSERT INTO campaign VALUES"
    " ('C', 'first_come', 10, {issued}, 'fixed', 100, NULL, 'KRW', NULL, NULL);"
)
COUPON = "INSERT INTO coupon VALUES ('C', '{user}', {sequence}, '{state}', {order}, now());"
HOLD = (
    "INSERT INTO coupon_hold VALUES ('o-1', '{state}', 'C', 'u1', {total}, {discount}, {refusal},"
    " {used});"
)


@pytest.mark.parametrize("name", [statement.name for statement in queries])
async def test_every_statement_fits_the_schema(name: str, database: Database) -> None:
    async with database.connection("coupon") as connection:
        await connection.prepare(getattr(queries, name).sql)


@pytest.mark.parametrize(
    "one", invariants.load("coupon", "sql/invariants.sql"), ids=lambda i: i.name
)
async def test_every_invariant_fits_the_schema(
    one: invariants.Invariant, database: Database
) -> None:
    async with database.connection("coupon") as connection:
        await connection.prepare(one.sql)
    assert one.number == 3


@pytest.mark.parametrize(
    "row",
    [
        CAMPAIGN.format(issued=11),
        CAMPAIGN.format(issued=-1),
        CAMPAIGN.format(issued=0).replace("10,", "0,"),
        CAMPAIGN.format(issued=0).replace("first_come", "whoever"),
        CAMPAIGN.format(issued=0).replace("'fixed', 100", "'percent', 101"),
        CAMPAIGN.format(issued=0).replace("'fixed', 100", "'fixed', 0"),
        CAMPAIGN.format(issued=0).replace("NULL, 'KRW'", "0, 'KRW'"),
        CAMPAIGN.format(issued=0).replace("NULL, NULL)", "now(), now())"),
        COUPON.format(user="u1", sequence=0, state="ISSUED", order="NULL"),
        COUPON.format(user="u1", sequence=1, state="ISSUED", order="'o-1'"),
        COUPON.format(user="u1", sequence=1, state="HELD", order="NULL"),
        COUPON.format(user="u1", sequence=1, state="USED", order="NULL"),
        COUPON.format(user="u1", sequence=1, state="LOST", order="'o-1'"),
        COUPON.format(user="u1", sequence=1, state="ISSUED", order="NULL")
        + COUPON.format(user="u1", sequence=2, state="ISSUED", order="NULL"),
        COUPON.format(user="u1", sequence=1, state="ISSUED", order="NULL")
        + COUPON.format(user="u2", sequence=1, state="ISSUED", order="NULL"),
        HOLD.format(state="HELD", total=10, discount=11, refusal="NULL", used=False),
        HOLD.format(state="HELD", total=10, discount=-1, refusal="NULL", used=False),
        HOLD.format(state="HELD", total="NULL", discount="NULL", refusal="NULL", used=False),
        HOLD.format(state="HELD", total="NULL", discount=1, refusal="NULL", used=False),
        HOLD.format(state="HELD", total=10, discount=1, refusal="NULL", used=True),
        HOLD.format(state="USED", total=10, discount=1, refusal="NULL", used=False),
        HOLD.format(state="HELD", total=10, discount=1, refusal="'expired'", used=False),
        HOLD.format(state="REFUSED", total="NULL", discount="NULL", refusal="NULL", used=False),
        HOLD.format(state="REFUSED", total=10, discount=1, refusal="'expired'", used=False),
        HOLD.format(state="TOMBSTONE", total=10, discount=1, refusal="NULL", used=False),
        HOLD.format(state="GONE", total="NULL", discount="NULL", refusal="NULL", used=False),
    ],
)
async def test_no_bad_state_can_be_written(row: str, database: Database) -> None:
    async with database.connection("coupon") as connection:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(row)


@pytest.mark.parametrize(
    "row",
    [
        CAMPAIGN.format(issued=10),
        COUPON.format(user="u1", sequence=1, state="HELD", order="'o-1'"),
        HOLD.format(state="HELD", total=10, discount=10, refusal="NULL", used=False),
        HOLD.format(state="USED", total=10, discount=0, refusal="NULL", used=True),
        HOLD.format(state="RESTORED", total=10, discount=0, refusal="NULL", used=True),
        HOLD.format(state="RESTORED", total=10, discount=0, refusal="NULL", used=False),
        HOLD.format(state="REFUSED", total="NULL", discount="NULL", refusal="'x'", used=False),
        HOLD.format(state="TOMBSTONE", total="NULL", discount="NULL", refusal="NULL", used=False),
    ],
)
async def test_good_states_can_be_written(row: str, database: Database) -> None:
    async with database.connection("coupon") as connection:
        await connection.execute(row)


WHOLE = (
    CAMPAIGN.format(issued=2)
    + COUPON.format(user="u1", sequence=1, state="HELD", order="'o-1'")
    + COUPON.format(user="u2", sequence=2, state="ISSUED", order="NULL")
    + HOLD.format(state="HELD", total=10, discount=1, refusal="NULL", used=False)
)


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("SELECT", set()),
        (
            "ALTER TABLE campaign DROP CONSTRAINT campaign_check; UPDATE campaign SET coupon_limit = 1",
            {"never_over_issued"},
        ),
        ("UPDATE campaign SET issued = 1", {"sequences_are_gapless"}),
        ("DELETE FROM campaign", {"sequences_are_gapless"}),
        ("UPDATE coupon SET sequence = 3 WHERE sequence = 2", {"sequences_are_gapless"}),
        ("DELETE FROM coupon WHERE user_id = 'u2'", {"sequences_are_gapless"}),
        (
            "ALTER TABLE coupon DROP CONSTRAINT coupon_coupon_id_sequence_key; UPDATE coupon SET sequence = 1",
            {"sequences_are_gapless"},
        ),
        (
            "ALTER TABLE coupon DROP CONSTRAINT coupon_pkey; UPDATE coupon SET user_id = 'u1'",
            {"one_coupon_per_user"},
        ),
        (
            "UPDATE coupon SET state = 'ISSUED', order_id = NULL WHERE user_id = 'u1'",
            {"holds_and_coupons_agree"},
        ),
        ("UPDATE coupon SET state = 'USED' WHERE user_id = 'u1'", {"holds_and_coupons_agree"}),
        ("UPDATE coupon SET order_id = 'o-2' WHERE user_id = 'u1'", {"holds_and_coupons_agree"}),
        ("DELETE FROM coupon_hold", {"holds_and_coupons_agree"}),
        ("UPDATE coupon_hold SET state = 'RESTORED'", {"holds_and_coupons_agree"}),
        ("UPDATE coupon_hold SET user_id = 'u2'", {"holds_and_coupons_agree"}),
        (
            "ALTER TABLE coupon_hold DROP CONSTRAINT coupon_hold_check; UPDATE coupon_hold SET discount = 11",
            {"discounts_are_within_totals"},
        ),
    ],
)
async def test_a_planted_violation_is_found(
    planted: str, found: set[str], coupons: Coupons
) -> None:
    await coupons.pool.execute(WHOLE)
    await coupons.pool.execute(planted)

    assert await coupons.violations() == found
