"""Coupon's other decisions: what campaigns are, and to whom they give a coupon. Pure.

Whoever comes first gets one, in the order in which the commands are folded: the campaign's own
count is the sequence number, so numbers run from 1 to the limit without a gap, and the campaign's
row must be locked while its commands are folded. A campaign may be changed while it runs; its
limit never falls below what was issued.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from coupon.domain import Campaign, Coupon, CouponState
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponIssued,
    CouponRefusal,
    CouponRequestRefused,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
    PutCampaign,
)
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from coupon.domain import CouponKey

AVAILABLE_KINDS: Final = frozenset({CampaignKind.FIRST_COME})

CampaignCommand: TypeAlias = PutCampaign | DrawLottery | IssueCoupon | EnterLottery
CampaignEvent: TypeAlias = CampaignPut | CouponIssued | CouponRequestRefused


class CampaignFold:
    """A chunk of commands to campaigns in memory: it knows what is to be saved afterwards."""

    def __init__(
        self,
        campaigns: Iterable[Campaign],
        coupons: Iterable[Coupon],
        *,
        currency: str,
        now: datetime | None,
    ) -> None:
        """Start from the chunk's campaigns, locked, and the coupons that its users have already.

        `currency` is the deployment's. `now` is the database's time after the locks; it may be
        None where the chunk asks for no coupon.
        """
        self._campaigns = {campaign.coupon_id: campaign for campaign in campaigns}
        self._loaded_campaigns = dict(self._campaigns)
        self._holders: set[CouponKey] = {coupon.key for coupon in coupons}
        self._currency = currency
        self._now = now
        self.new_coupons: list[Coupon] = []

    def apply(self, command: CampaignCommand) -> CampaignEvent | Refused:
        """Decide a command. Duplicates don't come here: the pipeline keeps their answers."""
        match command:
            case PutCampaign():
                return self._put(command)
            case IssueCoupon():
                return self._issue(command)
            case EnterLottery():
                return self._enter(command)
            case DrawLottery():
                return self._draw(command)
            case _:
                assert_never(command)

    @property
    def new_campaigns(self) -> list[Campaign]:
        """Campaigns that weren't there, in key order."""
        return [
            row for key, row in sorted(self._campaigns.items()) if key not in self._loaded_campaigns
        ]

    @property
    def changed_campaigns(self) -> list[Campaign]:
        """Campaigns that were loaded and changed, in key order."""
        return [
            row
            for key, row in sorted(self._campaigns.items())
            if key in self._loaded_campaigns and row is not self._loaded_campaigns[key]
        ]

    def _put(self, command: PutCampaign) -> CampaignPut | Refused:
        if command.kind not in AVAILABLE_KINDS:
            return _kind_unavailable(command.kind)
        if command.rule is not None:
            return Refused(
                CommandRefusal.INVALID_RULE,
                f"a campaign of kind {command.kind} asks no rule; leave it out",
            )
        currency = command.discount.currency
        if currency is not None and currency != self._currency:
            return Refused(
                CommandRefusal.CURRENCY_MISMATCH,
                f"discounts are in {self._currency} here, not in {currency}",
            )
        campaign = self._campaigns.get(command.coupon_id)
        if campaign is not None and campaign.kind is not command.kind:
            return Refused(
                CommandRefusal.CAMPAIGN_CONFLICT,
                f"{command.coupon_id} is {campaign.kind} and stays so; put another campaign",
            )
        issued = 0 if campaign is None else campaign.issued
        if command.limit < issued:
            return Refused(
                CommandRefusal.CAMPAIGN_CONFLICT,
                f"{issued} coupons of {command.coupon_id} are issued;"
                f" its limit can't be {command.limit}",
            )
        self._campaigns[command.coupon_id] = Campaign(
            command.coupon_id, command.kind, command.limit, issued,
            command.discount.type, command.discount.value, command.discount.cap,
            self._currency, command.starts_at, command.ends_at,
        )  # fmt: skip
        return CampaignPut(
            command_id=command.command_id,
            coupon_id=command.coupon_id,
            kind=command.kind,
            limit=command.limit,
        )

    def _issue(self, command: IssueCoupon) -> CouponIssued | CouponRequestRefused | Refused:
        campaign = self._campaigns.get(command.coupon_id)
        if campaign is None:
            return _not_given(command, CouponRefusal.UNKNOWN_CAMPAIGN)
        if campaign.kind not in AVAILABLE_KINDS:
            return _kind_unavailable(campaign.kind)
        if self._now is None:
            raise ValueError("a coupon can't be issued without the database's time")
        if (command.coupon_id, command.user_id) in self._holders:
            return _not_given(command, CouponRefusal.ALREADY_ISSUED)
        if not campaign.has_started(self._now) or campaign.has_ended(self._now):
            return _not_given(command, CouponRefusal.NOT_OPEN)
        if campaign.issued == campaign.limit:
            return _not_given(command, CouponRefusal.SOLD_OUT)
        campaign = replace(campaign, issued=campaign.issued + 1)
        coupon = Coupon(
            command.coupon_id, command.user_id, campaign.issued, CouponState.ISSUED, None,
            self._now,
        )  # fmt: skip
        self._campaigns[command.coupon_id] = campaign
        self._holders.add(coupon.key)
        self.new_coupons.append(coupon)
        return CouponIssued(
            command_id=command.command_id,
            coupon_id=command.coupon_id,
            user_id=command.user_id,
            sequence=coupon.sequence,
            issued_at=coupon.issued_at,
        )

    def _enter(self, command: EnterLottery) -> CouponRequestRefused | Refused:
        campaign = self._campaigns.get(command.coupon_id)
        if campaign is None:
            return _not_given(command, CouponRefusal.UNKNOWN_CAMPAIGN)
        return _no_lottery(campaign)

    def _draw(self, command: DrawLottery) -> Refused:
        campaign = self._campaigns.get(command.coupon_id)
        if campaign is None:
            return Refused(
                CommandRefusal.UNKNOWN_CAMPAIGN,
                f"there is no campaign {command.coupon_id}; put it first",
            )
        return _no_lottery(campaign)


def _not_given(command: IssueCoupon | EnterLottery, reason: CouponRefusal) -> CouponRequestRefused:
    return CouponRequestRefused(
        command_id=command.command_id,
        coupon_id=command.coupon_id,
        user_id=command.user_id,
        reason=reason,
    )


def _no_lottery(campaign: Campaign) -> Refused:
    if campaign.kind is CampaignKind.LOTTERY:
        return _kind_unavailable(campaign.kind)
    return Refused(
        CommandRefusal.NOT_A_LOTTERY,
        f"the campaign {campaign.coupon_id} is {campaign.kind}; ask for its coupons by IssueCoupon",
    )


def _kind_unavailable(kind: CampaignKind) -> Refused:
    known = ", ".join(sorted(AVAILABLE_KINDS))
    return Refused(
        CommandRefusal.KIND_UNAVAILABLE,
        f"campaigns of kind {kind} aren't available in this version; use one of: {known}",
    )
