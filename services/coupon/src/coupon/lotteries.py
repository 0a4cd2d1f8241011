"""What is decided on lotteries. Pure; how a draw goes is in `shared.contracts.lottery`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.contracts.base import format_time
from shared.contracts.coupon import LotteryDrawn
from shared.contracts.lottery import NO_ENTRIES, entries_hash
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from datetime import datetime

    from coupon.records import Campaign
    from shared.contracts.coupon import DrawLottery


def entered(campaign: Campaign, user_id: str) -> Campaign:
    """The lottery with one entry more."""
    chain = entries_hash([user_id], campaign.entries_hash or NO_ENTRIES)
    return replace(campaign, entered=campaign.entered + 1, entries_hash=chain)


def to_be_drawn(
    command: DrawLottery, campaign: Campaign | None, now: datetime
) -> Campaign | Refused:
    """The lottery, or why it can't be drawn at `now`."""
    if campaign is None:
        return Refused(
            CommandRefusal.UNKNOWN_CAMPAIGN,
            f"there is no campaign {command.coupon_id}; put it first",
        )
    if not campaign.way.draws:
        return no_lottery(campaign)
    if campaign.drawn_at is not None:
        return Refused(
            CommandRefusal.ALREADY_DRAWN,
            f"{command.coupon_id} was drawn at {format_time(campaign.drawn_at)};"
            f" `orderctl lottery verify {command.coupon_id}` recomputes it",
        )
    if campaign.starts_at is not None and not campaign.has_started(now):
        return _too_early(
            f"the entries of {command.coupon_id} open at {format_time(campaign.starts_at)};"
            " draw it once they are closed"
        )
    if campaign.ends_at is not None and not campaign.has_ended(now):
        return _too_early(
            f"the entries of {command.coupon_id} are open until"
            f" {format_time(campaign.ends_at)}; draw it then, or put an earlier endsAt"
        )
    return campaign


def drawn(campaign: Campaign, seed: str, now: datetime) -> Campaign:
    """The lottery once it is drawn: who wins is certain, and can be told, from here on."""
    winners = min(campaign.limit, campaign.entered)
    return replace(campaign, drawn_at=now, winners=winners, seed=seed)


def announced(command: DrawLottery, campaign: Campaign) -> LotteryDrawn:
    """What is published of a drawn lottery."""
    return LotteryDrawn(
        command_id=command.command_id,
        coupon_id=command.coupon_id,
        seed=campaign.seed or "",
        entries_hash=campaign.entries_hash or NO_ENTRIES,
        entry_count=campaign.entered,
        winner_count=campaign.winners or 0,
    )


def no_lottery(campaign: Campaign) -> Refused:
    """The answer to an entry or a draw of another kind."""
    return Refused(
        CommandRefusal.NOT_A_LOTTERY,
        f"the campaign {campaign.coupon_id} is {campaign.kind}; ask for its coupons by IssueCoupon",
    )


def not_for_the_asking(campaign: Campaign) -> Refused:
    """The answer to who asks a lottery for a coupon."""
    return Refused(
        CommandRefusal.KIND_UNAVAILABLE,
        f"{campaign.coupon_id} is a lottery: its coupons are drawn; enter by EnterLottery",
    )


def _too_early(detail: str) -> Refused:
    return Refused(CommandRefusal.CAMPAIGN_CONFLICT, detail)
