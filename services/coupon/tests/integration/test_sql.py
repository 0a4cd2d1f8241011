"""The statements, the constraints and the invariants, against the migrated schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from coupon.lottery_store import queries as lotteries
from coupon.store import queries
from shared.audit import invariants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database.queries import Statement
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


@pytest.mark.parametrize("statement", [*queries, *lotteries], ids=lambda statement: statement.name)
async def test_every_statement_fits_the_schema(statement: Statement, connection: Postgres) -> None:
    await connection.prepare(statement.sql)


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


LOTTERY = (
    "INSERT INTO campaign (coupon_id, kind, coupon_limit, issued, discount_type, discount_value,"
    " currency, seed_hash, entries_hash, seed, entered, drawn_at, winners)"
    " VALUES ('L', 'lottery', 2, 2, 'fixed', 1, 'KRW', 'x', 'y', 's', 3, now(), 2);"
    "INSERT INTO lottery_entry SELECT 'L', 'u' || n, n, 'e-' || n, now()"
    " FROM generate_series(1, 3) AS n;"
    # the tickets of u3, u1 and u2 begin with 67, 9e and eb
    "INSERT INTO coupon VALUES ('L', 'u3', 1, 'ISSUED', NULL, now()),"
    " ('L', 'u1', 2, 'ISSUED', NULL, now());"
)
QUEUED = (
    "UPDATE campaign SET kind = 'queued' WHERE coupon_id = 'C';"
    "UPDATE coupon SET arrived_partition = 3, arrived_offset = 10 * sequence"
    " WHERE coupon_id = 'C';"
)

SWAPPED = "".join(
    f"UPDATE coupon SET sequence = {sequence} WHERE coupon_id = 'L' AND user_id = '{user}';"
    for user, sequence in (("u3", 3), ("u1", 1), ("u3", 2))
)
OWED = (
    "WITH gone AS (DELETE FROM coupon WHERE coupon_id = 'L' AND sequence = 2)"
    " UPDATE campaign SET issued = 1 WHERE coupon_id = 'L'"
)
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
    + LOTTERY
)


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("SELECT", set()),
        (
            WITHOUT.format("campaign", "campaign_check")
            + "UPDATE campaign SET coupon_limit = 1 WHERE coupon_id = 'C'",
            {"never_over_issued"},
        ),
        ("UPDATE campaign SET issued = 1 WHERE coupon_id = 'C'", {"sequences_are_gapless"}),
        ("DELETE FROM campaign WHERE coupon_id = 'C'", {"sequences_are_gapless"}),
        (
            "UPDATE coupon SET sequence = 3 WHERE sequence = 2 AND coupon_id = 'C'",
            {"sequences_are_gapless"},
        ),
        ("DELETE FROM coupon WHERE user_id = 'u2' AND coupon_id = 'C'", {"sequences_are_gapless"}),
        (
            WITHOUT.format("coupon", "coupon_coupon_id_sequence_key")
            + "UPDATE coupon SET sequence = 1 WHERE coupon_id = 'C'",
            {"sequences_are_gapless"},
        ),
        (
            WITHOUT.format("coupon", "coupon_pkey")
            + "UPDATE coupon SET user_id = 'u1' WHERE coupon_id = 'C'",
            {"one_coupon_per_user"},
        ),
        (
            "UPDATE coupon SET state = 'ISSUED', order_id = NULL WHERE order_id = 'o-1'",
            {"holds_and_coupons_agree"},
        ),
        ("UPDATE coupon SET state = 'USED' WHERE order_id = 'o-1'", {"holds_and_coupons_agree"}),
        ("UPDATE coupon SET order_id = 'o-2' WHERE order_id = 'o-1'", {"holds_and_coupons_agree"}),
        ("DELETE FROM coupon_hold", {"holds_and_coupons_agree"}),
        ("UPDATE coupon_hold SET state = 'RESTORED'", {"holds_and_coupons_agree"}),
        ("UPDATE coupon_hold SET user_id = 'u2'", {"holds_and_coupons_agree"}),
        (SOLD_OUT, {"demand_is_served"}),
        (PUT_BEFORE + SOLD_OUT, {"demand_is_served"}),
        (PUT_AFTER + SOLD_OUT, set()),
        ("UPDATE campaign SET coupon_limit = 2 WHERE coupon_id = 'C';" + SOLD_OUT, set()),
        (SOLD_OUT.replace("sold_out", "not_open"), set()),
        (
            WITHOUT.format("coupon_hold", "coupon_hold_check")
            + "UPDATE coupon_hold SET discount = 11",
            {"discounts_are_within_totals"},
        ),
        (QUEUED, set()),
        (
            QUEUED + "UPDATE coupon SET arrived_offset = 21 - sequence WHERE coupon_id = 'C'",
            {"queued_in_order"},
        ),
        (
            QUEUED + "UPDATE coupon SET arrived_partition = sequence, arrived_offset = -sequence"
            " WHERE coupon_id = 'C'",
            set(),
        ),
        (
            QUEUED + "UPDATE coupon SET arrived_offset = NULL WHERE sequence = 1",
            {"queued_in_order"},
        ),
        (
            SWAPPED,
            {"winners_are_of_the_draw"},
        ),
        (
            "DELETE FROM lottery_entry WHERE user_id = 'u1'",
            {"winners_are_of_the_draw", "entries_are_counted"},
        ),
        ("UPDATE campaign SET entered = 4 WHERE coupon_id = 'L'", {"entries_are_counted"}),
        ("DELETE FROM lottery_entry WHERE user_id = 'u2'", {"entries_are_counted"}),
        ("UPDATE lottery_entry SET number = 4 WHERE number = 2", {"entries_are_counted"}),
        (
            OWED,
            {"winners_have_their_coupons"},
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
