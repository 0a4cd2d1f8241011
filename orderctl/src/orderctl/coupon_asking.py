"""An operator's commands to coupon, and what answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

from orderctl.admin_topics import Addressee, ask_service
from shared.contracts.coupon import CampaignPut, DrawLottery, LotteryDrawn, PutCampaign
from shared.contracts.refusals import CommandRefused

if TYPE_CHECKING:
    from shared.kafka.connection import KafkaConnection

COUPON: Final = Addressee("coupon", "coupon.admin.v1", "coupon.events.v1")

Command: TypeAlias = PutCampaign | DrawLottery
Answer: TypeAlias = CampaignPut | LotteryDrawn | CommandRefused


async def ask_coupon(
    connection: KafkaConnection, command: Command, *, within_s: float
) -> Answer | None:
    """What coupon answers, and what is raised, as `ask_service` says."""
    return await ask_service(connection, COUPON, command, is_answer, within_s=within_s)


def is_answer(message: object, command: Command) -> TypeGuard[Answer]:
    """Whether a message on `coupon.events.v1` is the answer to `command`, and to no other that had
    its id."""
    match message:
        case CommandRefused():
            return COUPON.refuses(message, command)
        case CampaignPut():
            return isinstance(command, PutCampaign) and (
                message.command_id, message.coupon_id, message.kind, message.limit
            ) == (command.command_id, command.coupon_id, command.kind, command.limit)  # fmt: skip
        case LotteryDrawn():
            return isinstance(command, DrawLottery) and (
                message.command_id, message.coupon_id
            ) == (command.command_id, command.coupon_id)  # fmt: skip
        case _:
            return False
