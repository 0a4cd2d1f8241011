"""Which group hands its messages to which handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coupon.handlers import EVENTS, CampaignCommands, SagaCommands
from shared.contracts.topics import GROUPS
from shared.pipeline import Route
from shared.pipeline.answers import answer_with_command_refused

if TYPE_CHECKING:
    from coupon.doorkeeper import Doorkeeper


def routes(currency: str, doorkeeper: Doorkeeper) -> list[Route]:
    """The routing table; `currency` is the deployment's."""
    campaigns = CampaignCommands(currency, doorkeeper)
    return [
        Route("coupon", GROUPS["coupon"], SagaCommands(currency)),
        Route(
            "coupon-requests",
            GROUPS["coupon-requests"],
            campaigns,
            refused=answer_with_command_refused(EVENTS),
            keeps_answers=True,
            begin=campaigns.begin,
        ),
    ]
