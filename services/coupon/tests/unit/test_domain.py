"""What each command of the saga does to an order's hold and to its coupon."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coupon.domain import Fold
from coupon.records import Campaign, Coupon, CouponState, Hold, HoldState
from shared.contracts.coupon import (
    CampaignKind,
    CouponHeld,
    CouponRefusal,
    CouponRefused,
    CouponUsed,
    DiscountType,
    HoldCoupon,
    RestoreCoupon,
    UseCoupon,
)
from shared.contracts.effects import Effect

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

CAMPAIGN = Campaign(
    "WELCOME10", CampaignKind.FIRST_COME, limit=10, issued=1,
    discount_type=DiscountType.PERCENT, discount_value=10, discount_cap=None,
    currency="KRW", starts_at=None, ends_at=None,
)  # fmt: skip
COUPON = Coupon("WELCOME10", "user_1", 1, CouponState.ISSUED, None, NOW - timedelta(days=1))


def hold(order_id: str = "o-1", *, total: int = 20_000, currency: str = "KRW") -> HoldCoupon:
    return HoldCoupon(
        command_id=f"{order_id}:hold:do",
        order_id=order_id,
        user_id="user_1",
        coupon_id="WELCOME10",
        total=total,
        currency=currency,
    )


def use(order_id: str = "o-1") -> UseCoupon:
    return UseCoupon(
        command_id=f"{order_id}:use:do",
        order_id=order_id,
        user_id="user_1",
        coupon_id="WELCOME10",
    )


def restore(order_id: str = "o-1") -> RestoreCoupon:
    return RestoreCoupon(
        command_id=f"{order_id}:hold:undo",
        order_id=order_id,
        user_id="user_1",
        coupon_id="WELCOME10",
    )


def fold_of(
    campaign: Campaign | None = CAMPAIGN,
    coupon: Coupon | None = COUPON,
    *holds: Hold,
    now: datetime | None = NOW,
) -> Fold:
    return Fold(
        [campaign] if campaign else (),
        [coupon] if coupon else (),
        holds,
        currency="KRW",
        now=now,
    )


def test_a_held_coupon_belongs_to_its_order_and_gives_its_discount() -> None:
    fold = fold_of()

    reply = fold.apply(hold())

    assert reply == CouponHeld(
        command_id="o-1:hold:do", order_id="o-1", discount=2_000, currency="KRW"
    )
    assert fold.new_holds == [
        Hold("o-1", HoldState.HELD, "WELCOME10", "user_1", 20_000, 2_000),
    ]
    assert fold.changed_coupons == [replace(COUPON, state=CouponState.HELD, order_id="o-1")]
    assert fold.changed_holds == []


@pytest.mark.parametrize(
    ("kind", "value", "cap", "total", "discount"),
    [
        (DiscountType.FIXED, 3_000, None, 20_000, 3_000),
        (DiscountType.FIXED, 3_000, None, 2_999, 2_999),
        (DiscountType.FIXED, 3_000, None, 0, 0),
        (DiscountType.FIXED, 3_000, 5, 20_000, 3_000),
        (DiscountType.PERCENT, 10, None, 999, 99),
        (DiscountType.PERCENT, 33, None, 1, 0),
        (DiscountType.PERCENT, 100, None, 999, 999),
        (DiscountType.PERCENT, 50, 1_000, 20_000, 1_000),
        (DiscountType.PERCENT, 50, 1_000, 1_999, 999),
        (DiscountType.PERCENT, 100, None, 10**15, 10**15),
    ],
)
def test_a_discount_is_a_whole_number_and_never_above_the_total(
    kind: DiscountType, value: int, cap: int | None, total: int, discount: int
) -> None:
    campaign = replace(CAMPAIGN, discount_type=kind, discount_value=value, discount_cap=cap)

    reply = fold_of(campaign).apply(hold(total=total))

    assert isinstance(reply, CouponHeld)
    assert reply.discount == discount


@pytest.mark.parametrize(
    ("campaign", "coupon", "currency", "reason"),
    [
        (None, None, "KRW", CouponRefusal.UNKNOWN_CAMPAIGN),
        (CAMPAIGN, None, "KRW", CouponRefusal.NOT_ISSUED),
        (CAMPAIGN, COUPON, "USD", CouponRefusal.CURRENCY_MISMATCH),
        (replace(CAMPAIGN, expires_at=NOW), COUPON, "KRW", CouponRefusal.EXPIRED),
        (
            CAMPAIGN,
            replace(COUPON, state=CouponState.HELD, order_id="o-2"),
            "KRW",
            CouponRefusal.HELD_BY_ANOTHER_ORDER,
        ),
        (
            CAMPAIGN,
            replace(COUPON, state=CouponState.USED, order_id="o-2"),
            "KRW",
            CouponRefusal.ALREADY_USED,
        ),
    ],
)
def test_a_refused_hold_is_remembered_and_moves_no_coupon(
    campaign: Campaign | None, coupon: Coupon | None, currency: str, reason: CouponRefusal
) -> None:
    fold = fold_of(campaign, coupon)

    reply = fold.apply(hold(currency=currency))

    assert reply == CouponRefused(command_id="o-1:hold:do", order_id="o-1", reason=reason)
    assert fold.new_holds == [Hold("o-1", HoldState.REFUSED, "WELCOME10", "user_1", refusal=reason)]
    assert fold.changed_coupons == []


def test_f3_a_refused_hold_stays_refused_when_the_coupon_comes_back() -> None:
    refused = Hold(
        "o-1", HoldState.REFUSED, "WELCOME10", "user_1",
        refusal=CouponRefusal.HELD_BY_ANOTHER_ORDER,
    )  # fmt: skip
    fold = fold_of(CAMPAIGN, COUPON, refused)

    reply = fold.apply(hold())

    assert isinstance(reply, CouponRefused)
    assert reply.reason is CouponRefusal.HELD_BY_ANOTHER_ORDER
    assert not fold.new_holds
    assert not fold.changed_holds
    assert not fold.changed_coupons


def test_a_coupon_is_good_until_just_before_its_campaign_ends() -> None:
    campaign = replace(CAMPAIGN, expires_at=NOW + timedelta(milliseconds=1))

    assert isinstance(fold_of(campaign).apply(hold()), CouponHeld)


def test_a_held_coupon_does_not_expire_while_its_order_lives() -> None:
    held = Hold("o-1", HoldState.HELD, "WELCOME10", "user_1", 20_000, 2_000)
    coupon = replace(COUPON, state=CouponState.HELD, order_id="o-1")
    fold = fold_of(replace(CAMPAIGN, expires_at=NOW - timedelta(days=1)), coupon, held)

    assert isinstance(fold.apply(hold()), CouponHeld)
    assert isinstance(fold.apply(use()), CouponUsed)


def test_the_discount_stays_as_promised_when_the_campaign_changes() -> None:
    held = Hold("o-1", HoldState.HELD, "WELCOME10", "user_1", 20_000, 2_000)
    coupon = replace(COUPON, state=CouponState.HELD, order_id="o-1")
    fold = fold_of(replace(CAMPAIGN, discount_value=90), coupon, held)

    reply = fold.apply(hold())

    assert isinstance(reply, CouponHeld)
    assert reply.discount == 2_000


def test_two_orders_in_one_chunk_share_no_coupon() -> None:
    fold = fold_of()

    first, second = fold.apply(hold("o-2")), fold.apply(hold("o-1"))

    assert isinstance(first, CouponHeld)
    assert isinstance(second, CouponRefused)
    assert second.reason is CouponRefusal.HELD_BY_ANOTHER_ORDER
    assert [row.order_id for row in fold.changed_coupons] == ["o-2"]


def test_a_live_hold_is_used_once() -> None:
    fold = fold_of()
    fold.apply(hold())

    assert isinstance(fold.apply(use()), CouponUsed)
    assert isinstance(fold.apply(use()), CouponUsed)
    assert [(row.state, row.used) for row in fold.new_holds] == [(HoldState.USED, True)]
    assert [row.state for row in fold.changed_coupons] == [CouponState.USED]


@pytest.mark.parametrize("then_used", [False, True])
def test_a_restore_ends_hold_and_use_alike(then_used: bool) -> None:
    fold = fold_of()
    fold.apply(hold())
    if then_used:
        fold.apply(use())

    replies = [fold.apply(restore()), fold.apply(restore())]

    assert [getattr(reply, "effect", None) for reply in replies] == [Effect.UNDONE] * 2
    assert [row.state for row in fold.new_holds] == [HoldState.RESTORED]
    assert [(row.state, row.order_id) for row in fold.changed_coupons] == [
        (CouponState.ISSUED, None)
    ]


def test_a_restored_coupon_is_held_again_by_another_order() -> None:
    fold = fold_of()
    for command in (hold("o-1"), restore("o-1")):
        fold.apply(command)

    assert isinstance(fold.apply(hold("o-2")), CouponHeld)
    assert isinstance(fold.apply(hold("o-1")), CouponHeld), "the first verdict, and no effect"
    assert [row.order_id for row in fold.changed_coupons] == ["o-2"]


def test_f14_a_restore_before_its_hold_leaves_a_tombstone() -> None:
    fold = fold_of(coupon=None, campaign=None, now=None)

    restored = fold.apply(restore())

    assert getattr(restored, "effect", None) is Effect.NOTHING
    tombstone = Hold("o-1", HoldState.TOMBSTONE, "WELCOME10", "user_1")
    assert fold.new_holds == [tombstone]

    late = fold_of(CAMPAIGN, COUPON, tombstone)
    assert late.apply(hold()) == CouponRefused(
        command_id="o-1:hold:do", order_id="o-1", reason=CouponRefusal.ALREADY_RESTORED
    )
    again = late.apply(restore())
    assert getattr(again, "effect", None) is Effect.NOTHING
    assert not late.new_holds
    assert not late.changed_holds
    assert not late.changed_coupons


def test_f1_a_duplicate_use_is_answered_the_same_after_the_restore() -> None:
    fold = fold_of()
    for command in (hold(), use(), restore()):
        fold.apply(command)

    assert isinstance(fold.apply(use()), CouponUsed)
    assert [row.state for row in fold.changed_coupons] == [CouponState.ISSUED]


@pytest.mark.parametrize(
    "record",
    [
        None,
        Hold("o-1", HoldState.TOMBSTONE, "WELCOME10", "user_1"),
        Hold("o-1", HoldState.RESTORED, "WELCOME10", "user_1", 20_000, 2_000),
        Hold(
            "o-1", HoldState.REFUSED, "WELCOME10", "user_1", refusal=CouponRefusal.NOT_ISSUED
        ),
    ],
)  # fmt: skip
def test_what_is_not_held_is_not_used(record: Hold | None) -> None:
    fold = fold_of(CAMPAIGN, COUPON, *([record] if record else []))

    reply = fold.apply(use())

    assert reply == CouponRefused(
        command_id="o-1:use:do", order_id="o-1", reason=CouponRefusal.NOT_HELD
    )
    assert fold.changed_coupons == []


def test_a_refused_use_stays_true_when_its_hold_comes_late() -> None:
    fold = fold_of()
    fold.apply(use())

    late = fold.apply(hold())

    assert isinstance(late, CouponRefused)
    assert late.reason is CouponRefusal.NOT_HELD
    assert isinstance(fold.apply(use()), CouponRefused)
    assert fold.changed_coupons == []


@pytest.mark.parametrize("command", [hold(), use(), restore()])
def test_an_order_that_names_another_coupon_is_a_bug(
    command: HoldCoupon | UseCoupon | RestoreCoupon,
) -> None:
    record = Hold("o-1", HoldState.TOMBSTONE, "OTHER", "user_1")

    with pytest.raises(ValueError, match="OTHER"):
        fold_of(CAMPAIGN, COUPON, record).apply(command)


def test_a_new_hold_is_not_judged_without_the_time() -> None:
    with pytest.raises(ValueError, match="time"):
        fold_of(now=None).apply(hold())
