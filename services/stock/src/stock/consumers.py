"""Which group hands its messages to which handler."""

from __future__ import annotations

from shared.contracts.topics import GROUPS
from shared.pipeline import Route
from shared.pipeline.answers import answer_with_command_refused
from stock.handlers import EVENTS, AdminCommands, SagaCommands


def routes(currency: str) -> list[Route]:
    """The routing table; `currency` is the deployment's."""
    return [
        Route("stock", GROUPS["stock"], SagaCommands(currency)),
        Route(
            "stock-requests",
            GROUPS["stock-requests"],
            AdminCommands(currency),
            refused=answer_with_command_refused(EVENTS),
            keeps_answers=True,
        ),
    ]
