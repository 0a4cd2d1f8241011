"""Which group hands its messages to which handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from payment.handlers import EVENTS, SagaCommands, WalletRequests
from shared.contracts.topics import GROUPS
from shared.pipeline import Route
from shared.pipeline.answers import answer_with_command_refused

if TYPE_CHECKING:
    from payment.courier import Courier
    from payment.outcomes import Outcomes


def routes(
    currency: str, courier: Courier | None, outcomes: Outcomes, *, takes_gateway: bool = True
) -> list[Route]:
    """The routing table; `currency` is the deployment's. See `SagaCommands`."""
    commands = SagaCommands(currency, courier, outcomes, takes_gateway=takes_gateway)
    return [
        Route("payment", GROUPS["payment"], commands, begin=commands.begin),
        Route(
            "payment-requests",
            GROUPS["payment-requests"],
            WalletRequests(currency),
            refused=answer_with_command_refused(EVENTS),
            keeps_answers=True,
        ),
    ]
