"""The campaigns of a round, and who asks them for coupons.

Each rush has a campaign of its own, so that none finds what another left. Every user asks once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.bus import Outgoing
from local_stack.seed import CURRENCY
from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    DrawLottery,
    EnterLottery,
    IssueCoupon,
    PutCampaign,
)
from shared.contracts.facts import Facts

if TYPE_CHECKING:
    from bench.campaigns.plan import Keying
    from shared.contracts.base import Message

RULE: Final = "user.tier == 'gold'"
FACTS: Final = Facts(user={"tier": "gold"})
"""Of every user who asks a conditional campaign: the rule is asked, and lets all of them in."""
OFF: Final = 1_000


class Rush(NamedTuple):
    """So many users ask one campaign for its coupons."""

    kind: CampaignKind
    keying: Keying
    turn: str
    """The round."""
    users: int
    coupons: int

    @property
    def campaign(self) -> str:
        """The id of its campaign."""
        return f"{self.kind}-{self.keying}-{self.turn}"

    @property
    def draws(self) -> bool:
        """Whether users enter, and a draw gives out the coupons."""
        return self.kind is CampaignKind.LOTTERY

    def put(self) -> Outgoing:
        """The operator's command that creates the campaign."""
        message = PutCampaign(
            command_id=f"put-{self.campaign}",
            coupon_id=self.campaign,
            kind=self.kind,
            limit=self.coupons,
            discount=Discount(type=DiscountType.FIXED, value=OFF, currency=CURRENCY),
            rule=RULE if self.kind is CampaignKind.CONDITIONAL else None,
        )
        return self._outgoing(message)

    def requests(self) -> list[Outgoing]:
        """What the users ask."""
        return [self._outgoing(self._request(n)) for n in range(self.users)]

    def draw(self) -> Outgoing:
        """The operator's command that draws a lottery."""
        return self._outgoing(
            DrawLottery(command_id=f"draw-{self.campaign}", coupon_id=self.campaign)
        )

    def _request(self, number: int) -> IssueCoupon | EnterLottery:
        command_id, user_id = f"{self.campaign}-{number}", f"user_{number}"
        if self.draws:
            return EnterLottery(command_id=command_id, coupon_id=self.campaign, user_id=user_id)
        facts = FACTS if self.kind is CampaignKind.CONDITIONAL else None
        return IssueCoupon(
            command_id=command_id, coupon_id=self.campaign, user_id=user_id, facts=facts
        )

    def _outgoing(self, message: Message) -> Outgoing:
        return Outgoing(self.campaign.encode(), message.to_bytes())
