"""Coupon's other decisions: what campaigns are, and to whom they give a coupon. Pure.

    draft ──startsAt──▶ open ──endsAt──▶ closed ──DrawLottery──▶ drawn

Coupons are given out in the order in which the commands are folded: the campaign's own count is the
sequence number, so numbers run from 1 to the limit without a gap, and the campaign's row must be
locked while its coupons are issued. A campaign may be changed while it runs; its limit never falls
below what was issued. Nobody is refused because a gate says so: a user whom it turned away while
the row has coupons left has to wait for those who were admitted before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, assert_never

from coupon import lotteries
from coupon.records import Campaign, Coupon, CouponState, Entry, Judged
from coupon.rules import InvalidRuleError, rule_of
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponIssued,
    CouponRefusal,
    CouponRequestRefused,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
    LotteryDrawn,
    LotteryEntered,
    PutCampaign,
)
from shared.contracts.lottery import NO_ENTRIES, seed_hash, ticket
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime

    from coupon.records import Arrival, CouponKey

CampaignCommand: TypeAlias = PutCampaign | DrawLottery | IssueCoupon | EnterLottery
CampaignEvent: TypeAlias = (
    CampaignPut | CouponIssued | CouponRequestRefused | LotteryEntered | LotteryDrawn
)


class Loaded(NamedTuple):
    """What a chunk of commands to campaigns starts from."""

    campaigns: Iterable[Campaign]
    """Locked, but those from which the chunk issues nothing."""
    holders: Collection[CouponKey]
    """Those of the chunk's users who have a coupon."""
    entered: Collection[CouponKey]
    """Those of the chunk's users who entered."""
    seeds: Mapping[str, str]
    """Those of the lotteries that users enter, or that are to be drawn."""
    now: datetime
    """The database's time after the locks."""


class CampaignFold:
    """A chunk of commands to campaigns in memory: it knows what is to be saved afterwards."""

    def __init__(self, loaded: Loaded, *, currency: str, new_seed: Callable[[], str]) -> None:
        """`currency` is the deployment's; `new_seed` makes the seed of a new lottery."""
        self.campaigns = {campaign.coupon_id: campaign for campaign in loaded.campaigns}
        self.loaded_campaigns = dict(self.campaigns)
        self._holders = set(loaded.holders)
        self._entered = set(loaded.entered)
        self._seeds = dict(loaded.seeds)
        self._now = loaded.now
        self._currency = currency
        self._new_seed = new_seed
        self.new_coupons: list[Coupon] = []
        self.new_entries: list[Entry] = []
        self.new_seeds: dict[str, str] = {}

    def apply(
        self,
        command: CampaignCommand,
        *,
        admitted: bool = False,
        turned_away: bool = False,
        judged: Judged | None = None,
        arrived: Arrival | None = None,
    ) -> CampaignEvent | Refused | None:
        """Decide a command. Duplicates don't come here: the pipeline keeps their answers.

        `admitted`, `turned_away` and `judged` are what was found out before. None where a user was
        turned away while coupons are left, since others have to be decided before, and where its
        rule is another by now: it is asked about anew.
        """
        match command:
            case PutCampaign():
                return self._put(command)
            case IssueCoupon():
                return self._issue(command, admitted, turned_away, judged, arrived)
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
            row for key, row in sorted(self.campaigns.items()) if key not in self.loaded_campaigns
        ]

    @property
    def changed_campaigns(self) -> list[Campaign]:
        """Campaigns that were loaded and changed, in key order."""
        return [
            row
            for key, row in sorted(self.campaigns.items())
            if key in self.loaded_campaigns and row is not self.loaded_campaigns[key]
        ]

    def _put(self, command: PutCampaign) -> CampaignPut | Refused:
        before = self.campaigns.get(command.coupon_id)
        refused = self._ill_formed(command) or _contradiction(command, before)
        if refused is not None:
            return refused
        expires_at = command.expires_at
        if expires_at is None and command.kind is not CampaignKind.LOTTERY:
            expires_at = command.ends_at
        said = Campaign(
            command.coupon_id, command.kind, command.limit, 0, command.discount.type,
            command.discount.value, command.discount.cap, self._currency, command.starts_at,
            command.ends_at, expires_at, command.rule,
        )  # fmt: skip
        if before is not None:
            campaign = replace(
                said, issued=before.issued, fence=before.fence, seed_hash=before.seed_hash,
                entries_hash=before.entries_hash, entered=before.entered, seed=before.seed,
                drawn_at=before.drawn_at, winners=before.winners,
            )  # fmt: skip
            if campaign.limit != before.limit:
                campaign = self._voided(campaign)
        elif command.kind is CampaignKind.LOTTERY:
            seed = self._new_seed()
            self._seeds[command.coupon_id] = self.new_seeds[command.coupon_id] = seed
            campaign = replace(said, seed_hash=seed_hash(seed), entries_hash=NO_ENTRIES)
        else:
            campaign = said
        self.campaigns[command.coupon_id] = campaign
        return CampaignPut(
            command_id=command.command_id,
            coupon_id=command.coupon_id,
            kind=command.kind,
            limit=command.limit,
            seed_hash=campaign.seed_hash,
        )

    def _ill_formed(self, command: PutCampaign) -> Refused | None:
        """What is wrong with the command whatever campaign there is."""
        currency = command.discount.currency
        if currency is not None and currency != self._currency:
            return Refused(
                CommandRefusal.CURRENCY_MISMATCH,
                f"discounts are in {self._currency} here, not in {currency}",
            )
        if command.rule is None:
            return None
        if command.kind is not CampaignKind.CONDITIONAL:
            return Refused(
                CommandRefusal.INVALID_RULE,
                f"a campaign of kind {command.kind} asks no rule; leave it out",
            )
        try:
            rule_of(command.rule)
        except InvalidRuleError as error:
            return Refused(CommandRefusal.INVALID_RULE, str(error))
        return None

    def _issue(
        self,
        command: IssueCoupon,
        admitted: bool,
        turned_away: bool,
        judged: Judged | None,
        arrived: Arrival | None,
    ) -> CouponIssued | CouponRequestRefused | Refused | None:
        campaign = self.campaigns.get(command.coupon_id)
        if campaign is None:
            return refused(command, CouponRefusal.UNKNOWN_CAMPAIGN)
        if campaign.way.draws:
            return lotteries.not_for_the_asking(campaign)
        if (command.coupon_id, command.user_id) in self._holders:
            return refused(command, CouponRefusal.ALREADY_ISSUED)
        if not campaign.is_open(self._now):
            return refused(command, CouponRefusal.NOT_OPEN, campaign.why_not_open(self._now))
        if campaign.is_full:
            return refused(command, CouponRefusal.SOLD_OUT)
        if campaign.rule is not None:
            if judged is None or judged.rule != campaign.rule:
                return None
            if judged.why_not is not None:
                return refused(command, CouponRefusal.NOT_ELIGIBLE, judged.why_not)
        if turned_away:
            return None
        if campaign.way.asks_gate and not admitted:
            campaign = self._voided(campaign)  # the gate doesn't know of this coupon
        campaign = replace(campaign, issued=campaign.issued + 1)
        coupon = Coupon(
            command.coupon_id, command.user_id, campaign.issued, CouponState.ISSUED, None,
            self._now, arrived if campaign.way.queues else None,
        )  # fmt: skip
        self.campaigns[command.coupon_id] = campaign
        self._holders.add(coupon.key)
        self.new_coupons.append(coupon)
        return CouponIssued(
            command_id=command.command_id,
            coupon_id=command.coupon_id,
            user_id=command.user_id,
            sequence=coupon.sequence,
            issued_at=coupon.issued_at,
        )

    def _enter(self, command: EnterLottery) -> LotteryEntered | CouponRequestRefused | Refused:
        campaign = self.campaigns.get(command.coupon_id)
        if campaign is None:
            return refused(command, CouponRefusal.UNKNOWN_CAMPAIGN)
        if not campaign.way.draws:
            return lotteries.no_lottery(campaign)
        key = (command.coupon_id, command.user_id)
        if key not in self._entered:
            if not campaign.is_open(self._now):
                return refused(command, CouponRefusal.NOT_OPEN, campaign.why_not_open(self._now))
            self._entered.add(key)
            campaign = lotteries.entered(campaign, command.user_id)
            self.campaigns[command.coupon_id] = campaign
            entry = Entry(
                command.coupon_id, command.user_id, campaign.entered, command.command_id,
                self._now, ticket(self._seeds[command.coupon_id], command.user_id),
            )  # fmt: skip
            self.new_entries.append(entry)
        return LotteryEntered(
            command_id=command.command_id, coupon_id=command.coupon_id, user_id=command.user_id,
            seed_hash=campaign.seed_hash,
        )  # fmt: skip

    def _draw(self, command: DrawLottery) -> LotteryDrawn | Refused:
        campaign = lotteries.to_be_drawn(command, self.campaigns.get(command.coupon_id), self._now)
        if isinstance(campaign, Refused):
            return campaign
        drawn = lotteries.drawn(campaign, self._seeds[command.coupon_id], self._now)
        self.campaigns[command.coupon_id] = drawn
        return lotteries.announced(command, drawn)

    def _voided(self, campaign: Campaign) -> Campaign:
        """Under another fence: no gate counts any more that was written for it."""
        loaded = self.loaded_campaigns.get(campaign.coupon_id)
        return replace(campaign, fence=loaded.fence + 1 if loaded else 1)


def judge(rule: str, command: IssueCoupon) -> Judged:
    """What a campaign's rule says of a request."""
    return Judged(rule, rule_of(rule).refuses(command.facts))


def refused(
    command: IssueCoupon | EnterLottery, reason: CouponRefusal, detail: str | None = None
) -> CouponRequestRefused:
    """The answer to a request that is turned down for good."""
    return CouponRequestRefused(
        command_id=command.command_id,
        coupon_id=command.coupon_id,
        user_id=command.user_id,
        reason=reason,
        detail=detail,
    )


def _contradiction(command: PutCampaign, before: Campaign | None) -> Refused | None:
    """How a change contradicts what was issued or published already."""
    if before is None:
        return None
    detail = None
    if before.kind is not command.kind:
        detail = f"{command.coupon_id} is {before.kind} and stays so; put another campaign"
    elif command.limit < before.issued:
        detail = (
            f"{before.issued} coupons of {command.coupon_id} are issued;"
            f" its limit can't be {command.limit}"
        )
    elif before.drawn_at is not None and command.limit != before.limit:
        detail = f"{command.coupon_id} is drawn; its limit stays {before.limit}"
    return None if detail is None else Refused(CommandRefusal.CAMPAIGN_CONFLICT, detail)
