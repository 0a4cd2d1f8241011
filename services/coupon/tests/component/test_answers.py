"""What each request is answered, from Kafka to Kafka: once, and for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.testing.builders import draw_lottery, enter_lottery, issue_coupon, new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADMIN, EVENTS, LETTERS = "coupon.admin.v1", "coupon.events.v1", "coupon-requests.dlq.v1"
ISSUING = ("first_come", "queued", "locked", "conditional")
HOUR = timedelta(hours=1)


@pytest.fixture
async def coupons(shop: Any) -> AsyncIterator[Any]:
    """Two instances; the invariants hold after the test."""
    await shop.start(0, 1)
    yield shop
    await shop.check()


def asked(campaign: str, **fields: Any) -> Any:
    return issue_coupon(campaign, facts={"user": {"tier": "gold"}}, **fields)


@pytest.mark.parametrize("kind", ISSUING)
async def test_f8_who_asks_twice_has_one_coupon(shop: Any, coupons: Any, kind: str) -> None:
    """The same command gets the same answer, another command of the same user is told so. Copies
    that come at the same time may be answered as one."""
    (campaign,) = await coupons.put(kind, 3)
    request, other, third = asked(campaign), asked(campaign), asked(campaign, user_id="user_2")
    await coupons.ask(request, request, other, third)
    await coupons.verdicts([other, third])
    await coupons.ask(request)

    (issued,) = await coupons.verdicts([request], times=2)
    refused, second = await coupons.verdicts([other, third])
    assert (issued.type, issued.sequence) == ("CouponIssued", 1)
    assert (refused.type, refused.reason) == ("CouponRefused", "already_issued")
    assert (second.type, second.sequence) == ("CouponIssued", 2)
    assert await coupons.issued(campaign) == 2


@pytest.mark.parametrize("kind", ISSUING)
async def test_what_is_not_open_says_why(shop: Any, coupons: Any, kind: str) -> None:
    now = datetime.now(UTC)
    (draft,) = await coupons.put(kind, 1, starts_at=now + HOUR)
    (closed,) = await coupons.put(kind, 1, starts_at=now - 2 * HOUR, ends_at=now - HOUR)
    requests = [asked(draft), asked(closed), asked(new_id("nowhere"))]
    await coupons.ask(*requests)
    reasons = [verdict.reason for verdict in await coupons.verdicts(requests)]
    assert reasons == ["not_open", "not_open", "unknown_campaign"]


async def test_a_lottery_is_entered_once_and_drawn_once(shop: Any, coupons: Any) -> None:
    (campaign,) = await coupons.put("lottery", 1)
    (ended,) = await coupons.put("lottery", 1, ends_at=datetime.now(UTC) - HOUR)
    entry, again = enter_lottery(campaign), enter_lottery(campaign)
    late, nowhere = enter_lottery(ended), enter_lottery(new_id("nowhere"))
    await coupons.ask(entry, entry, again, late, nowhere)
    first, second, *refused = await coupons.verdicts([entry, again, late, nowhere])
    assert (first.type, second.type) == ("LotteryEntered", "LotteryEntered")
    assert [one.reason for one in refused] == ["not_open", "unknown_campaign"]

    draw, redraw = draw_lottery(campaign), draw_lottery(campaign)
    await coupons.topics.publish(ADMIN, [draw, redraw])
    drawn, refusal = await coupons.verdicts([draw, redraw])
    assert (drawn.type, drawn.entry_count, drawn.winner_count) == ("LotteryDrawn", 1, 1)
    assert (refusal.type, refusal.reason) == ("CommandRefused", "already_drawn")
    issued = await coupons.topics.message(
        EVENTS, lambda one: one.type == "CouponIssued" and one.coupon_id == campaign
    )
    assert (issued.command_id, issued.sequence) == (entry.command_id, 1)
    late = enter_lottery(campaign, user_id="user_2")
    await coupons.ask(late)
    (verdict,) = await coupons.verdicts([late])
    assert verdict.reason == "not_open"


async def test_the_wrong_question_to_a_kind_is_dead_lettered(shop: Any, coupons: Any) -> None:
    (campaign,), (drawn,) = await coupons.put("queued", 1), await coupons.put("lottery", 1)
    wrong = [enter_lottery(campaign), asked(drawn)]
    await coupons.ask(*wrong)
    reasons = [refusal.reason for refusal in await coupons.verdicts(wrong)]
    assert reasons == ["not_a_lottery", "kind_unavailable"]
    for command in wrong:
        await coupons.letter(
            LETTERS, lambda one, sought=command: one.json["commandId"] == sought.command_id
        )
