"""When a lottery takes entries, when it is drawn, and what is said of that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from coupon.campaigns import CampaignFold, Loaded
from coupon.records import Campaign, Entry
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponRefusal,
    CouponRequestRefused,
    Discount,
    DiscountType,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
    LotteryDrawn,
    LotteryEntered,
    PutCampaign,
)
from shared.contracts.lottery import entries_hash, seed_hash, ticket
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
SEED = "5eed" * 16

LOTTERY = Campaign(
    "L", CampaignKind.LOTTERY, limit=3, issued=0, discount_type=DiscountType.FIXED,
    discount_value=1_000, discount_cap=None, currency="KRW", starts_at=None, ends_at=None,
    seed_hash=seed_hash(SEED), entries_hash="ab" * 32, entered=5,
)  # fmt: skip
DRAWN = replace(LOTTERY, drawn_at=NOW - TICK, winners=3, seed=SEED)
PUT = PutCampaign(
    command_id="put-1", coupon_id="L", kind=CampaignKind.LOTTERY, limit=3,
    discount=Discount(type=DiscountType.FIXED, value=1_000),
)  # fmt: skip
DRAW = DrawLottery(command_id="draw-1", coupon_id="L")


def enter(number: int, user: int | None = None) -> EnterLottery:
    user_id = f"u{number if user is None else user}"
    return EnterLottery(command_id=f"e-{number}", coupon_id="L", user_id=user_id)


def fold_of(
    campaign: Campaign | None = LOTTERY,
    *,
    entered: Iterable[str] = (),
) -> CampaignFold:
    loaded = Loaded(
        [campaign] if campaign else [],
        set(),
        {("L", user_id) for user_id in entered},
        {"L": SEED} if campaign else {},
        NOW,
    )
    return CampaignFold(loaded, currency="KRW", new_seed=lambda: SEED)


def reason_of(event: object) -> object:
    assert isinstance(event, CouponRequestRefused | Refused), event
    return event.reason


def test_a_lottery_commits_itself_to_a_seed() -> None:
    fold = fold_of(None)

    event = fold.apply(PUT)

    assert isinstance(event, CampaignPut)
    assert event.seed_hash == seed_hash(SEED)
    assert fold.new_seeds == {"L": SEED}


def test_a_change_keeps_the_seed() -> None:
    fold = fold_of()

    event = fold.apply(PUT.model_copy(update={"limit": 4}))

    assert isinstance(event, CampaignPut)
    assert event.seed_hash == LOTTERY.seed_hash
    assert fold.new_seeds == {}
    assert [(row.limit, row.entered) for row in fold.changed_campaigns] == [(4, 5)]


def test_users_enter_once() -> None:
    fold = fold_of(entered=["u1"])

    events = [fold.apply(one) for one in (enter(1), enter(2), enter(3, 2))]

    assert events == [
        LotteryEntered(
            command_id=f"e-{number}", coupon_id="L", user_id=user_id, seed_hash=LOTTERY.seed_hash
        )
        for number, user_id in ((1, "u1"), (2, "u2"), (3, "u2"))
    ]
    assert fold.new_entries == [Entry("L", "u2", 6, "e-2", NOW, ticket(SEED, "u2"))]
    assert [(row.entered, row.entries_hash) for row in fold.changed_campaigns] == [
        (6, entries_hash(["u2"], "ab" * 32))
    ]


def test_what_is_drawn_is_certain_and_said() -> None:
    fold = fold_of()

    event = fold.apply(DRAW)

    assert event == LotteryDrawn(
        command_id="draw-1", coupon_id="L", seed=SEED, entries_hash="ab" * 32, entry_count=5,
        winner_count=3,
    )  # fmt: skip
    assert fold.changed_campaigns == [replace(LOTTERY, drawn_at=NOW, winners=3, seed=SEED)]
    assert reason_of(fold.apply(DRAW)) is CommandRefusal.ALREADY_DRAWN
    assert reason_of(fold.apply(enter(9))) is CouponRefusal.NOT_OPEN


def test_where_fewer_entered_all_of_them_win() -> None:
    event = fold_of(replace(LOTTERY, entered=2)).apply(DRAW)

    assert isinstance(event, LotteryDrawn)
    assert event.winner_count == 2


def test_a_lottery_is_put_entered_and_drawn_in_one_chunk() -> None:
    fold = fold_of(None)

    fold.apply(PUT)
    fold.apply(enter(9))
    event = fold.apply(DRAW)

    assert event == LotteryDrawn(
        command_id="draw-1", coupon_id="L", seed=SEED, entries_hash=entries_hash(["u9"]),
        entry_count=1, winner_count=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("campaign", "reason"),
    [
        (replace(LOTTERY, starts_at=NOW + TICK), CommandRefusal.CAMPAIGN_CONFLICT),
        (replace(LOTTERY, ends_at=NOW + TICK), CommandRefusal.CAMPAIGN_CONFLICT),
        (replace(LOTTERY, ends_at=NOW), None),
        (DRAWN, CommandRefusal.ALREADY_DRAWN),
        (
            replace(LOTTERY, kind=CampaignKind.QUEUED, seed_hash=None, entries_hash=None),
            CommandRefusal.NOT_A_LOTTERY,
        ),
        (None, CommandRefusal.UNKNOWN_CAMPAIGN),
    ],
)
def test_a_lottery_is_drawn_once_it_is_closed(
    campaign: Campaign | None, reason: CommandRefusal | None
) -> None:
    event = fold_of(campaign).apply(DRAW)

    if reason is None:
        assert isinstance(event, LotteryDrawn)
    else:
        assert reason_of(event) is reason


@pytest.mark.parametrize(
    ("campaign", "reason"),
    [
        (replace(LOTTERY, starts_at=NOW + TICK), CouponRefusal.NOT_OPEN),
        (replace(LOTTERY, ends_at=NOW), CouponRefusal.NOT_OPEN),
        (DRAWN, CouponRefusal.NOT_OPEN),
    ],
)
def test_entries_are_taken_while_it_is_open(campaign: Campaign, reason: CouponRefusal) -> None:
    fold = fold_of(campaign, entered=["u1"])

    assert reason_of(fold.apply(enter(2))) is reason
    assert isinstance(fold.apply(enter(1)), LotteryEntered), "who entered, entered"


@pytest.mark.parametrize(("limit", "changes"), [(3, True), (4, False), (2, False)])
def test_the_limit_of_a_drawn_lottery_stays(limit: int, changes: bool) -> None:
    event = fold_of(DRAWN).apply(PUT.model_copy(update={"limit": limit}))

    if changes:
        assert isinstance(event, CampaignPut)
    else:
        assert reason_of(event) is CommandRefusal.CAMPAIGN_CONFLICT


def test_a_lottery_gives_nothing_for_the_asking() -> None:
    ask = IssueCoupon(command_id="i-1", coupon_id="L", user_id="u1")

    assert reason_of(fold_of().apply(ask)) is CommandRefusal.KIND_UNAVAILABLE
