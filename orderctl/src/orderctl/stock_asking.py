"""An operator's commands to stock, and what answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

from orderctl.admin_topics import Addressee, ask_service
from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import AdjustStock, SetStockStrategy, StockAdjusted, StockStrategySet

if TYPE_CHECKING:
    from shared.kafka.connection import KafkaConnection

STOCK: Final = Addressee("stock", "stock.admin.v1", "stock.events.v1")

Command: TypeAlias = AdjustStock | SetStockStrategy
Done: TypeAlias = StockAdjusted | StockStrategySet
Answer: TypeAlias = Done | CommandRefused


async def ask_stock(
    connection: KafkaConnection, command: Command, *, within_s: float
) -> Answer | None:
    """What stock answers, and what is raised, as `ask_service` says."""
    return await ask_service(connection, STOCK, command, is_answer, within_s=within_s)


def is_answer(message: object, command: Command) -> TypeGuard[Answer]:
    """Whether a message on `stock.events.v1` is the answer to `command`, and to no other that had
    its id."""
    match message:
        case CommandRefused():
            return STOCK.refuses(message, command)
        case StockAdjusted():
            return isinstance(command, AdjustStock) and (
                message.command_id, message.product_id, message.delta
            ) == (command.command_id, command.product_id, command.delta)  # fmt: skip
        case StockStrategySet():
            return isinstance(command, SetStockStrategy) and (
                message.command_id, message.product_id, message.strategy
            ) == (command.command_id, command.product_id, command.strategy)  # fmt: skip
        case _:
            return False
