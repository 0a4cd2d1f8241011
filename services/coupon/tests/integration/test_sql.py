"""The statements, the constraints and the invariants, against the migrated schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from coupon.store import queries
from shared.audit import invariants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.databases import Postgres, Template

INVARIANTS = invariants.load("coupon", "sql/invariants.sql")

CAMPAIGN = (
    "INSERT INTO campaign VALUES"
    " ('C', 'first_come', 10, {issued}, 'fixed', 100, NULL, 'KRW', NULL, NULL);"
)
COUPON = "INSERT INTO coupon VALUES ('C', '{user}', {sequence}, '{state}', {order}, now());"
HOLD = (
    "INSERT INTO coupon_hold VALUES ('o-1', '{state}', 'C', 'u1', {total}, {discount}, {refusal},"
    " {used});"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(template: Template) -> AsyncIterator[Postgres]:
    """One database for all of these tests: none of them commits."""
    async with template.clone() as database, database.connection("coupon") as connection:
        yield connection


@pytest.fixture
async def connection(server: Postgres) -> AsyncIterator[Postgres]:
    transaction = server.transaction()
    await transaction.start()
    yield server
    await transaction.rollback()


@pytest.mark.parametrize("name", [statement.name for statement in queries])
async def test_every_statement_fits_the_schema(name: str, connection: Postgres) -> None:
    await connection.prepare(getattr(queries, name).sql)


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.name)
async def test_every_invariant_fits_the_schema(
    invariant: invariants.Invariant, connection: Postgres
) -> None:
    await connection.prepare(invariant.sql)
    assert invariant.number == 3


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
async def test_no_bad_state_can_be_written(row: str, connection: Postgres) -> None:
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
async def test_good_states_can_be_written(row: str, connection: Postgres) -> None:
    await connection.execute(row)


ANSWERED = (
    "INSERT INTO inbox VALUES ('{type}', '{id}', decode(repeat('00', 16), 'hex'), {at},"
    " jsonb_build_array(jsonb_build_array('coupon.events.v1', 'C', '{said}', '{id}', '{answer}')));"
)
SOLD_OUT = ANSWERED.format(
    type="IssueCoupon", id="i-1", at="now()", said="CouponRefused",
    answer='{"reason": "sold_out"}',
)  # fmt: skip
PUT_BEFORE, PUT_AFTER = (
    ANSWERED.format(type="PutCampaign", id="p-1", at=at, said="CampaignPut", answer="{}")
    for at in ("now() - interval '1 hour'", "now() + interval '1 hour'")
)
WITHOUT = "ALTER TABLE {} DROP CONSTRAINT {};"
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
            WITHOUT.format("campaign", "campaign_check") + "UPDATE campaign SET coupon_limit = 1",
            {"never_over_issued"},
        ),
        ("UPDATE campaign SET issued = 1", {"sequences_are_gapless"}),
        ("DELETE FROM campaign", {"sequences_are_gapless"}),
        ("UPDATE coupon SET sequence = 3 WHERE sequence = 2", {"sequences_are_gapless"}),
        ("DELETE FROM coupon WHERE user_id = 'u2'", {"sequences_are_gapless"}),
        (
            WITHOUT.format("coupon", "coupon_coupon_id_sequence_key")
            + "UPDATE coupon SET sequence = 1",
            {"sequences_are_gapless"},
        ),
        (
            WITHOUT.format("coupon", "coupon_pkey") + "UPDATE coupon SET user_id = 'u1'",
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
        (SOLD_OUT, {"demand_is_served"}),
        (PUT_BEFORE + SOLD_OUT, {"demand_is_served"}),
        (PUT_AFTER + SOLD_OUT, set()),
        ("UPDATE campaign SET coupon_limit = 2;" + SOLD_OUT, set()),
        (SOLD_OUT.replace("sold_out", "not_open"), set()),
        (
            WITHOUT.format("coupon_hold", "coupon_hold_check")
            + "UPDATE coupon_hold SET discount = 11",
            {"discounts_are_within_totals"},
        ),
    ],
)
async def test_a_planted_violation_is_found(
    planted: str, found: set[str], connection: Postgres
) -> None:
    await connection.execute(WHOLE)
    await connection.execute(planted)

    violated = {one.name for one in INVARIANTS if await connection.fetch(one.sql)}
    assert violated == found
