"""The commands to campaigns of one transaction: what they touch, and how they are decided. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from coupon.records import Arrival
from shared.contracts.coupon import DrawLottery, EnterLottery, IssueCoupon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coupon.asked import Asked
    from coupon.campaigns import CampaignCommand, CampaignEvent, CampaignFold
    from coupon.records import CouponKey
    from shared.contracts.refusals import Refused
    from shared.pipeline import Delivery


class CampaignChunk:
    """Deliveries in the order in which they are decided, and what was found out before."""

    def __init__(self, deliveries: Sequence[Delivery], asked: Asked) -> None:
        """Nothing is loaded yet."""
        self.deliveries = deliveries
        self.commands = [cast("CampaignCommand", one.message) for one in deliveries]
        self.asked = asked
        self._requests = [one for one in self.commands if isinstance(one, IssueCoupon)]
        touched = {one.coupon_id for one in self.commands}
        locked = {
            one.coupon_id
            for one in self.commands
            if not isinstance(one, IssueCoupon) or one.command_id not in asked.turned_away
        }
        self.locked = sorted(locked)
        """Campaigns that the chunk may change, in key order."""
        self.watched = sorted(touched - locked)
        """The others, of users that were turned away: were they turned away rightly?"""
        self.queued = sorted(locked & asked.queued)

    @property
    def users(self) -> set[CouponKey]:
        """Who asks for a coupon."""
        return {(one.coupon_id, one.user_id) for one in self._requests}

    @property
    def entrants(self) -> set[CouponKey]:
        """Who enters a lottery."""
        return {
            (one.coupon_id, one.user_id) for one in self.commands if isinstance(one, EnterLottery)
        }

    @property
    def lotteries(self) -> list[str]:
        """Campaigns that users enter, or that are to be drawn."""
        return sorted(
            {one.coupon_id for one in self.commands if isinstance(one, EnterLottery | DrawLottery)}
        )

    def decide(self, fold: CampaignFold) -> list[CampaignEvent | Refused | None]:
        """What becomes of each command; None where it has to wait."""
        asked = self.asked
        return [
            fold.apply(
                command,
                admitted=command.command_id in asked.admitted,
                turned_away=command.command_id in asked.turned_away,
                judged=asked.judged.get(command.command_id),
                arrived=Arrival(delivery.received.partition, delivery.received.offset),
            )
            for delivery, command in zip(self.deliveries, self.commands, strict=True)
        ]
