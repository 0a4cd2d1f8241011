"""What operators may make of a campaign, and who gets a coupon of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from coupon.campaigns import CampaignFold, Loaded, judge
from coupon.records import Arrival, Campaign, Coupon, CouponState, Judged
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponIssued,
    CouponRefusal,
    CouponRequestRefused,
    Discount,
    DiscountType,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
    PutCampaign,
)
from shared.contracts.facts import Facts
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
SEED = "5eed" * 16

CAMPAIGN = Campaign(
    "WELCOME10", CampaignKind.FIRST_COME, limit=3, issued=0,
    discount_type=DiscountType.FIXED, discount_value=1_000, discount_cap=None,
    currency="KRW", starts_at=None, ends_at=None,
)  # fmt: skip


def put(**fields: Any) -> PutCampaign:
    given: dict[str, Any] = {
        "command_id": "put-1",
        "coupon_id": "WELCOME10",
        "kind": CampaignKind.FIRST_COME,
        "limit": 3,
        "discount": Discount(type=DiscountType.FIXED, value=1_000),
    }
    return PutCampaign(**given | fields)


def issue(number: int, user_id: str | None = None) -> IssueCoupon:
    return IssueCoupon(
        command_id=f"i-{number}", coupon_id="WELCOME10", user_id=user_id or f"user_{number}"
    )


def fold_of(
    *campaigns: Campaign,
    coupons: Iterable[Coupon] = (),
    now: datetime = NOW,
) -> CampaignFold:
    holders = {coupon.key for coupon in coupons}
    loaded = Loaded(campaigns, holders, (), {}, now)
    return CampaignFold(loaded, currency="KRW", new_seed=lambda: SEED)


def reason_of(event: object) -> object:
    assert isinstance(event, CouponRequestRefused | Refused), event
    return event.reason


def test_a_new_campaign_is_put() -> None:
    fold = fold_of()

    event = fold.apply(put())

    assert event == CampaignPut(
        command_id="put-1", coupon_id="WELCOME10", kind=CampaignKind.FIRST_COME, limit=3
    )
    assert fold.new_campaigns == [CAMPAIGN]
    assert fold.changed_campaigns == []


def test_a_campaign_changes_and_keeps_its_count() -> None:
    fold = fold_of(replace(CAMPAIGN, issued=2, fence=4))

    fold.apply(put(limit=9, discount=Discount(type=DiscountType.PERCENT, value=5, cap=10)))

    assert fold.new_campaigns == []
    assert fold.changed_campaigns == [
        replace(
            CAMPAIGN, issued=2, limit=9, fence=5,
            discount_type=DiscountType.PERCENT, discount_value=5, discount_cap=10,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("campaign", "command", "reason"),
    [
        (None, put(rule="user.tier == 'gold'"), CommandRefusal.INVALID_RULE),
        (
            None,
            put(discount=Discount(type=DiscountType.FIXED, value=1, currency="USD")),
            CommandRefusal.CURRENCY_MISMATCH,
        ),
        (replace(CAMPAIGN, issued=3), put(limit=2), CommandRefusal.CAMPAIGN_CONFLICT),
        (replace(CAMPAIGN, kind=CampaignKind.LOTTERY), put(), CommandRefusal.CAMPAIGN_CONFLICT),
    ],
)
def test_what_can_not_be_put_is_refused_and_changes_nothing(
    campaign: Campaign | None, command: PutCampaign, reason: CommandRefusal
) -> None:
    fold = fold_of(*([campaign] if campaign else []))

    assert reason_of(fold.apply(command)) is reason
    assert not fold.new_campaigns
    assert not fold.changed_campaigns


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_a_limit_may_change_down_to_what_was_issued(limit: int) -> None:
    fold = fold_of(replace(CAMPAIGN, issued=2))

    assert isinstance(fold.apply(put(limit=limit)), CampaignPut)


def test_f63_the_first_to_come_get_a_coupon_in_order_and_nobody_more() -> None:
    fold = fold_of(CAMPAIGN)

    events = [fold.apply(issue(number)) for number in range(1, 6)]

    issued, refused = events[:3], events[3:]
    assert [(event.user_id, event.sequence) for event in issued
            if isinstance(event, CouponIssued)] == [
        ("user_1", 1), ("user_2", 2), ("user_3", 3)
    ]  # fmt: skip
    assert [reason_of(event) for event in refused] == [CouponRefusal.SOLD_OUT] * 2
    assert [row.issued for row in fold.changed_campaigns] == [3]
    assert [(row.user_id, row.sequence, row.state) for row in fold.new_coupons] == [
        ("user_1", 1, CouponState.ISSUED),
        ("user_2", 2, CouponState.ISSUED),
        ("user_3", 3, CouponState.ISSUED),
    ]
    assert {row.issued_at for row in fold.new_coupons} == {NOW}


def test_a_user_gets_one_coupon() -> None:
    stored = Coupon("WELCOME10", "user_7", 1, CouponState.USED, "o-1", NOW)
    fold = fold_of(replace(CAMPAIGN, issued=1), coupons=[stored])

    events = [fold.apply(issue(1, "user_7")), fold.apply(issue(2)), fold.apply(issue(3, "user_2"))]

    assert reason_of(events[0]) is CouponRefusal.ALREADY_ISSUED
    assert isinstance(events[1], CouponIssued)
    assert events[1].sequence == 2
    assert reason_of(events[2]) is CouponRefusal.ALREADY_ISSUED
    assert [row.user_id for row in fold.new_coupons] == ["user_2"]


def test_a_raised_limit_lets_the_next_ones_in() -> None:
    fold = fold_of(replace(CAMPAIGN, issued=3))

    assert reason_of(fold.apply(issue(1))) is CouponRefusal.SOLD_OUT
    fold.apply(put(limit=4))
    event = fold.apply(issue(2))

    assert isinstance(event, CouponIssued)
    assert event.sequence == 4


@pytest.mark.parametrize(
    ("starts_at", "ends_at", "is_open"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + TICK, None, False),
        (None, NOW + TICK, True),
        (None, NOW, False),
        (NOW - TICK, NOW + TICK, True),
    ],
)
@pytest.mark.parametrize("column", ["ends_at", "expires_at"])
def test_f61_a_campaign_is_open_by_the_time_it_is_given(
    starts_at: datetime | None, ends_at: datetime | None, is_open: bool, column: str
) -> None:
    """Where its coupons are worthless it is closed as well."""
    campaign = replace(CAMPAIGN, starts_at=starts_at)
    fold = fold_of(replace(campaign, **{column: ends_at}))

    event = fold.apply(issue(1))

    if is_open:
        assert isinstance(event, CouponIssued)
    else:
        assert reason_of(event) is CouponRefusal.NOT_OPEN
        assert isinstance(event, CouponRequestRefused)
        when = "opens" if starts_at and starts_at > NOW else "closed"
        assert f"{when} at 2026-03-01T12:00:00.00" in (event.detail or "")
        assert fold.new_coupons == []


def test_nothing_is_given_out_of_a_campaign_that_nobody_put() -> None:
    fold = fold_of()

    assert reason_of(fold.apply(issue(1))) is CouponRefusal.UNKNOWN_CAMPAIGN
    enter = EnterLottery(command_id="e-1", coupon_id="WELCOME10", user_id="user_1")
    assert reason_of(fold.apply(enter)) is CouponRefusal.UNKNOWN_CAMPAIGN
    draw = DrawLottery(command_id="d-1", coupon_id="WELCOME10")
    assert reason_of(fold.apply(draw)) is CommandRefusal.UNKNOWN_CAMPAIGN


def test_who_comes_first_needs_no_lottery() -> None:
    fold = fold_of(CAMPAIGN)

    enter = EnterLottery(command_id="e-1", coupon_id="WELCOME10", user_id="user_1")
    assert reason_of(fold.apply(enter)) is CommandRefusal.NOT_A_LOTTERY
    draw = DrawLottery(command_id="d-1", coupon_id="WELCOME10")
    assert reason_of(fold.apply(draw)) is CommandRefusal.NOT_A_LOTTERY


@pytest.mark.parametrize(
    ("kind", "ends_at", "expires_at", "stored"),
    [
        (CampaignKind.FIRST_COME, None, None, None),
        (CampaignKind.FIRST_COME, NOW, None, NOW),
        (CampaignKind.FIRST_COME, NOW, NOW + TICK, NOW + TICK),
        (CampaignKind.FIRST_COME, None, NOW, NOW),
        (CampaignKind.LOTTERY, NOW, None, None),
        (CampaignKind.LOTTERY, NOW, NOW + TICK, NOW + TICK),
    ],
)
def test_coupons_are_good_until_their_campaign_ends_but_those_that_are_drawn_after(
    kind: CampaignKind,
    ends_at: datetime | None,
    expires_at: datetime | None,
    stored: datetime | None,
) -> None:
    fold = fold_of()

    fold.apply(put(kind=kind, ends_at=ends_at, expires_at=expires_at))

    assert [row.expires_at for row in fold.new_campaigns] == [stored]


@pytest.mark.parametrize("kind", [CampaignKind.FIRST_COME, CampaignKind.QUEUED])
def test_who_was_turned_away_waits_while_coupons_are_left(kind: CampaignKind) -> None:
    """A gate has the last word on nothing."""
    fold = fold_of(replace(CAMPAIGN, kind=kind, limit=2, issued=1))

    assert fold.apply(issue(1), turned_away=True) is None
    assert isinstance(fold.apply(issue(2), admitted=True), CouponIssued)
    assert reason_of(fold.apply(issue(1), turned_away=True)) is CouponRefusal.SOLD_OUT
    assert reason_of(fold.apply(issue(3, "user_2"))) is CouponRefusal.ALREADY_ISSUED


def test_a_coupon_that_no_gate_knows_of_voids_it_once() -> None:
    fold = fold_of(replace(CAMPAIGN, fence=7))

    fold.apply(issue(1), admitted=True)
    assert [row.fence for row in fold.changed_campaigns] == [7]
    fold.apply(issue(2))
    fold.apply(issue(3))

    assert [row.fence for row in fold.changed_campaigns] == [8]


@pytest.mark.parametrize("kind", [CampaignKind.QUEUED, CampaignKind.LOCKED])
def test_kinds_without_a_gate_void_none(kind: CampaignKind) -> None:
    fold = fold_of(replace(CAMPAIGN, kind=kind, fence=7))

    fold.apply(issue(1))

    assert [row.fence for row in fold.changed_campaigns] == [7]


@pytest.mark.parametrize("kind", CampaignKind)
def test_arrivals_are_kept_of_queued_campaigns(kind: CampaignKind) -> None:
    if kind is CampaignKind.LOTTERY:
        return
    rule = "true" if kind is CampaignKind.CONDITIONAL else None
    fold = fold_of(replace(CAMPAIGN, kind=kind, rule=rule))

    fold.apply(issue(1), judged=Judged("true", None), arrived=Arrival(3, 44))

    kept = Arrival(3, 44) if kind is CampaignKind.QUEUED else None
    assert [row.arrived for row in fold.new_coupons] == [kept]


CONDITIONAL = replace(CAMPAIGN, kind=CampaignKind.CONDITIONAL, rule="user.tier == 'gold'")


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Facts(user={"tier": "gold"}), None),
        (Facts(user={"tier": "tin"}), CouponRefusal.NOT_ELIGIBLE),
        (Facts(user={}), CouponRefusal.NOT_ELIGIBLE),
        (None, CouponRefusal.NOT_ELIGIBLE),
    ],
)
def test_a_rule_says_who_is_eligible(facts: Facts | None, verdict: CouponRefusal | None) -> None:
    command = issue(1).model_copy(update={"facts": facts})
    assert CONDITIONAL.rule is not None
    judged = judge(CONDITIONAL.rule, command)

    event = fold_of(CONDITIONAL).apply(command, admitted=True, judged=judged)

    if verdict is None:
        assert isinstance(event, CouponIssued)
    else:
        assert reason_of(event) is verdict
        assert isinstance(event, CouponRequestRefused)
        assert event.detail


def test_a_rule_is_judged_before_the_fold_and_anew_where_it_is_another() -> None:
    """Never within a transaction: it may take a while."""
    judged = Judged("user.tier == 'tin'", None)

    assert fold_of(CONDITIONAL).apply(issue(1), admitted=True, judged=judged) is None
    assert fold_of(CONDITIONAL).apply(issue(1), admitted=True) is None
    full = fold_of(replace(CONDITIONAL, issued=3))
    assert reason_of(full.apply(issue(1))) is CouponRefusal.SOLD_OUT


def test_a_rule_that_can_not_be_compiled_is_refused_with_its_place() -> None:
    fold = fold_of()

    refused = fold.apply(put(kind=CampaignKind.CONDITIONAL, rule="user.tier == \n 'gold"))

    assert isinstance(refused, Refused)
    assert refused.reason is CommandRefusal.INVALID_RULE
    assert "line 2" in refused.detail
    assert not fold.new_campaigns
