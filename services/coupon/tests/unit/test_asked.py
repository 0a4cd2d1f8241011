"""What was found out before the transaction, and what is given back of it."""

from __future__ import annotations

from coupon.asked import NOTHING_ASKED
from coupon.campaign_chunk import CampaignChunk
from coupon.gates import Ask
from coupon.records import Campaign
from shared.contracts.coupon import (
    CampaignKind,
    DiscountType,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
)
from shared.testing.replicas import deliver


def ask(name: str) -> Ask:
    return Ask("C", f"u-{name}", name, 1)


def issue(name: str, coupon_id: str = "C") -> IssueCoupon:
    return IssueCoupon(command_id=name, coupon_id=coupon_id, user_id="u1")


def test_admissions_that_came_to_nothing_are_given_back() -> None:
    asked = NOTHING_ASKED._replace(admitted={name: ask(name) for name in ("i-1", "i-2", "i-3")})

    assert asked.in_vain(["i-2"]) == [ask("i-1"), ask("i-3")]


def test_a_chunk_locks_what_it_may_change_and_watches_the_rest() -> None:
    commands = [
        issue("away-1", "A"),
        issue("away-2", "B"),
        issue("in-1", "B"),
        issue("away-3", "D"),
        issue("in-2", "Q"),
        EnterLottery(command_id="e-1", coupon_id="L", user_id="u1"),
        DrawLottery(command_id="d-1", coupon_id="D"),
    ]
    asked = NOTHING_ASKED._replace(
        turned_away=frozenset({"away-1", "away-2", "away-3"}), queued=frozenset({"A", "Q"})
    )

    chunk = CampaignChunk([one for command in commands for one in deliver(command)], asked)

    assert chunk.locked == ["B", "D", "L", "Q"]
    assert chunk.watched == ["A"]
    assert chunk.queued == ["Q"]


def test_a_campaign_is_saved_at_the_fence_at_which_it_was_asked_about() -> None:
    campaign = Campaign(
        "C", CampaignKind.LOCKED, 1, 0, DiscountType.FIXED, 1, None, "KRW", None, None, fence=8
    )

    assert NOTHING_ASKED.fence_of(campaign) == 8
    assert NOTHING_ASKED._replace(fences={"C": 7}).fence_of(campaign) == 7
