"""Which group hands its messages to which handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.topics import GROUPS
from shared.pipeline import Route
from shared.pipeline.answers import answer_with_command_refused
from stock.handlers import EVENTS, AdminCommands, SagaCommands

if TYPE_CHECKING:
    from stock.admission import Admitter
    from stock.contention import Contention


def routes(currency: str, admitter: Admitter, contention: Contention) -> list[Route]:
    """The routing table; `currency` is the deployment's."""
    saga = SagaCommands(currency, admitter, contention.record)
    return [
        Route("stock", GROUPS["stock"], saga, begin=saga.begin),
        Route(
            "stock-requests",
            GROUPS["stock-requests"],
            AdminCommands(currency, admitter),
            refused=answer_with_command_refused(EVENTS),
            keeps_answers=True,
        ),
    ]
