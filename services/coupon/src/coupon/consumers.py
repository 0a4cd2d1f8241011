"""Which group hands its messages to which handler."""

from __future__ import annotations

from coupon.handlers import EVENTS, CampaignCommands, SagaCommands
from shared.contracts.topics import GROUPS
from shared.pipeline import Route
from shared.pipeline.answers import answer_with_command_refused


def routes(currency: str) -> list[Route]:
    """The routing table; `currency` is the deployment's."""
    return [
        Route("coupon", GROUPS["coupon"], SagaCommands(currency)),
        Route(
            "coupon-requests",
            GROUPS["coupon-requests"],
            CampaignCommands(currency),
            refused=answer_with_command_refused(EVENTS),
            keeps_answers=True,
        ),
    ]
