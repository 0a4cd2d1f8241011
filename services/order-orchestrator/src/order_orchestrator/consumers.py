"""Which group hands its messages to which handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from order_orchestrator.dead_letters import DeadLetterReader
from order_orchestrator.handlers import DeadLetters, OrderCommands, Replies
from shared.contracts.topics import GROUPS
from shared.pipeline import Route

if TYPE_CHECKING:
    from order_orchestrator.admission import Admission
    from order_orchestrator.chunk import Sagas

REPLIES = "order-orchestrator"
REQUESTS = "order-orchestrator-requests"
DEAD_LETTERS = "order-orchestrator-dead-letters"


def routes(currency: str, sagas: Sagas, admission: Admission) -> list[Route]:
    """The routing table; `currency` is the deployment's."""
    commands = OrderCommands(currency, sagas, admission)
    reader = DeadLetterReader()
    return [
        Route(REPLIES, GROUPS[REPLIES], Replies(sagas, admission)),
        Route(
            REQUESTS,
            GROUPS[REQUESTS],
            commands,
            refused=commands.refuse,
            pace=admission.pace,
        ),
        Route(
            DEAD_LETTERS,
            GROUPS[DEAD_LETTERS],
            DeadLetters(sagas),
            readers=dict.fromkeys(GROUPS[DEAD_LETTERS], reader),
        ),
    ]
