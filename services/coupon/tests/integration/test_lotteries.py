"""Lotteries on a real database: entries, the draw, and the winners' coupons in batches."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from coupon import drawer
from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
    PutCampaign,
)
from shared.contracts.lottery import entries_hash, winners

Coupons: TypeAlias = Any  # of conftest.py

ENDED = datetime(2026, 1, 1, tzinfo=UTC)
DRAW = DrawLottery(command_id="draw-1", coupon_id="L")


def put(command_id: str = "put-1", **fields: Any) -> PutCampaign:
    given: dict[str, Any] = {
        "command_id": command_id, "coupon_id": "L", "kind": CampaignKind.LOTTERY, "limit": 3,
        "discount": Discount(type=DiscountType.FIXED, value=500),
    }  # fmt: skip
    return PutCampaign(**given | fields)


def enter(number: int, user: int | None = None) -> EnterLottery:
    user_id = f"u{number if user is None else user}"
    return EnterLottery(command_id=f"e-{number}", coupon_id="L", user_id=user_id)


def said(answers: list[dict[str, Any]]) -> list[str]:
    return [answer.get("reason", answer["type"]) for answer in answers]


async def drawn(coupons: Coupons, users: int, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """What is said of a draw among so many users, and who wins as anyone computes it."""
    ((answer),) = await coupons.run(put(**fields))
    if users:
        await coupons.run(*(enter(number) for number in range(users)))
    (told,) = await coupons.run(DRAW)
    ids = [f"u{number}" for number in range(users)]
    assert hashlib.sha256(told["seed"].encode()).hexdigest() == answer["seedHash"]
    assert told["entriesHash"] == entries_hash(ids)
    return told, winners(told["seed"], ids, fields.get("limit", 3))


async def issued(coupons: Coupons) -> list[dict[str, Any]]:
    """What the winners are told, batch by batch, by one instance after the other."""
    events: list[dict[str, Any]] = []
    for number in range(100):
        batch = await coupons.replica(number % 2).issue_to_winners()
        if not batch:
            return events
        events += batch
    raise AssertionError("it doesn't end")


async def test_who_wins_can_be_computed_from_what_is_published(coupons: Coupons) -> None:
    told, chosen = await drawn(coupons, 20)

    assert (told["entryCount"], told["winnerCount"]) == (20, 3)
    events = await issued(coupons)
    assert [(event["type"], event["userId"], event["sequence"]) for event in events] == [
        ("CouponIssued", user_id, rank) for rank, user_id in enumerate(chosen, 1)
    ]
    assert [event["commandId"] for event in events] == [f"e-{user[1:]}" for user in chosen]
    assert await coupons.rows("SELECT user_id, state FROM coupon ORDER BY sequence") == [
        (user_id, "ISSUED") for user_id in chosen
    ]
    assert await coupons.violations() == set()


async def test_winners_get_theirs_in_batches_whoever_goes_on(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawer, "WINNERS_AT_ONCE", 4)
    _, chosen = await drawn(coupons, 30, limit=10)

    first = await coupons.replica(1).issue_to_winners()
    assert len(first) == 4
    assert await coupons.violations() == set(), "a draw that isn't through yet breaks nothing"
    events = first + await issued(coupons)

    assert [event["userId"] for event in events] == chosen
    assert [event["sequence"] for event in events] == list(range(1, 11))


@pytest.mark.parametrize("users", [0, 2])
async def test_where_fewer_enter_all_of_them_win(users: int, coupons: Coupons) -> None:
    told, chosen = await drawn(coupons, users)

    assert (told["entryCount"], told["winnerCount"]) == (users, users)
    assert [event["userId"] for event in await issued(coupons)] == chosen
    assert await coupons.violations() == set()


async def test_a_user_has_one_entry_however_often_it_is_asked_for(coupons: Coupons) -> None:
    await coupons.run(put())
    answers = await coupons.run(enter(1), enter(2, 1), enter(1), enter(3))
    again = await coupons.run(enter(2, 1), enter(4, 1))

    assert said(answers) == ["LotteryEntered"] * 3
    assert said(again) == ["LotteryEntered"] * 2
    assert await coupons.rows("SELECT entered FROM campaign") == [(2,)]
    assert await coupons.rows("SELECT user_id, number, command_id FROM lottery_entry") == [
        ("u1", 1, "e-1"),
        ("u3", 2, "e-3"),
    ]


async def test_entries_end_with_the_draw_and_it_is_drawn_once(coupons: Coupons) -> None:
    first = await coupons.run(put(), enter(1), DRAW)
    again = await coupons.run(DRAW)
    late = await coupons.run(
        enter(2), enter(3, 1), DRAW.model_copy(update={"command_id": "draw-2"})
    )

    assert said(first) == ["CampaignPut", "LotteryEntered", "LotteryDrawn"]
    assert again == first[2:], "the same draw, said again"
    assert said(late) == ["not_open", "LotteryEntered", "already_drawn"]


async def test_a_draw_waits_for_the_close(coupons: Coupons) -> None:
    now = datetime.now(UTC)
    await coupons.run(put(ends_at=now + timedelta(hours=1)), enter(1))
    (early,) = await coupons.run(DRAW)
    assert early["reason"] == "campaign_conflict"
    assert "open until" in early["detail"]

    await coupons.run(put("put-2", ends_at=ENDED))

    assert said(await coupons.run(enter(2), DRAW)) == ["not_open", "LotteryDrawn"]
    assert len(await issued(coupons)) == 1


async def test_a_draft_takes_no_entries_and_is_not_drawn(coupons: Coupons) -> None:
    await coupons.run(put(starts_at=datetime.now(UTC) + timedelta(hours=1)))

    assert said(await coupons.run(enter(1), DRAW)) == ["not_open", "campaign_conflict"]


async def test_the_seed_stays_when_the_campaign_changes(coupons: Coupons) -> None:
    (first,) = await coupons.run(put())
    (second,) = await coupons.run(put("put-2", limit=9))
    await coupons.run(enter(1), DRAW)
    (conflict,) = await coupons.run(put("put-3", limit=10))
    (third,) = await coupons.run(put("put-4", limit=9, expires_at=ENDED))

    assert first["seedHash"] == second["seedHash"] == third["seedHash"]
    assert conflict["reason"] == "campaign_conflict"


async def test_nobody_but_coupon_knows_before_the_draw(coupons: Coupons) -> None:
    await coupons.run(put(), enter(1))
    assert len(await coupons.rows("SELECT seed FROM lottery_seed")) == 1
    assert len(await coupons.rows("SELECT ticket FROM lottery_ticket")) == 1

    operator = await asyncpg.connect(coupons.database.operator_dsn)
    try:
        assert await operator.fetch("SELECT seed FROM coupon.lottery_seed") == []
        assert await operator.fetch("SELECT ticket FROM coupon.lottery_ticket") == []
    finally:
        await operator.close()


async def test_a_lottery_gives_nothing_for_the_asking(coupons: Coupons) -> None:
    await coupons.run(put())
    ask = IssueCoupon(command_id="i-1", coupon_id="L", user_id="u1")

    assert said(await coupons.run(ask)) == ["kind_unavailable"]
    assert await coupons.rows("SELECT 1 FROM coupon") == []


async def test_a_batch_that_fails_is_issued_by_the_next_pass(coupons: Coupons) -> None:
    _, chosen = await drawn(coupons, 5)
    await coupons.pool.execute("ALTER TABLE coupon RENAME TO hidden")
    with pytest.raises(asyncpg.UndefinedTableError):
        await coupons.replica().issue_to_winners()
    await coupons.pool.execute("ALTER TABLE hidden RENAME TO coupon")

    assert [event["userId"] for event in await issued(coupons)] == chosen


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_million_entries_are_drawn_in_a_moment(coupons: Coupons) -> None:
    """It prints how long the draw and a batch of winners take: neither sorts the entries."""
    users, limit = 1_000_000, 100_000
    (answer,) = await coupons.run(put(limit=limit))
    ids = [f"user_{number}" for number in range(1, users + 1)]
    for table, columns in (
        ("lottery_entry", "'user_' || n, n, 'e-' || n, now()"),
        ("lottery_ticket", "sha256(convert_to(seed || ':user_' || n, 'UTF8')), 'user_' || n"),
    ):
        await coupons.pool.execute(
            f"INSERT INTO {table} SELECT 'L', {columns}"
            f" FROM lottery_seed, generate_series(1, {users}) AS n",
            timeout=120,
        )
    await coupons.pool.execute(
        f"UPDATE campaign SET entered = {users}, entries_hash = '{entries_hash(ids)}'"
    )

    began_s = time.perf_counter()
    (told,) = await coupons.run(DRAW)
    drawn_s = time.perf_counter()
    batches = [await coupons.replica().issue_to_winners() for _ in range(20)]
    issued_s = time.perf_counter()

    print(f"\ndraw {drawn_s - began_s:.3f} s, a batch {(issued_s - drawn_s) / 20:.3f} s")
    assert hashlib.sha256(told["seed"].encode()).hexdigest() == answer["seedHash"]
    events = [event for batch in batches for event in batch]
    assert [one["userId"] for one in events] == winners(told["seed"], ids, len(events))
