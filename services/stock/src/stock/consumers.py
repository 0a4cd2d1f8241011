"""Which group hands its messages to which handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.topics import GROUPS
from shared.pipeline import Route
from shared.pipeline.answers import answer_with_command_refused
from stock.handlers import EVENTS, AdminCommands, SagaCommands

if TYPE_CHECKING:
    from stock.admitter import Admitter
    from stock.contention import Contention


def routes(
    currency: str, admitter: Admitter, contention: Contention, low_stock_units: int = 0
) -> list[Route]:
    """The routing table; `currency` is the deployment's, `low_stock_units` as in the settings."""
    saga = SagaCommands(currency, admitter, contention, low_stock_units)
    return [
        Route("stock", GROUPS["stock"], saga, begin=saga.begin),
        Route(
            "stock-requests",
            GROUPS["stock-requests"],
            AdminCommands(currency, admitter, low_stock_units),
            refused=answer_with_command_refused(EVENTS),
            keeps_answers=True,
        ),
    ]
