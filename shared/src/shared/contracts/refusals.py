"""`CommandRefused`: the answer to a command that can't be obeyed, on every topic of events."""

from enum import StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import Field

from shared.contracts.base import CommandName, DerivedId, Id, Message, Note, Timestamp


class CommandRefusal(StrEnum):
    """Why a command was refused. Closed: a new member is a new version of the contract.

    At most 23 characters each, so that `CommandRefused.event_id` stays within its 128.
    """

    # every command
    INVALID_COMMAND = "invalid_command"
    """It couldn't be read; `detail` says which field."""
    COMMAND_ID_REUSED = "command_id_reused"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    CURRENCY_MISMATCH = "currency_mismatch"
    # orders
    ORDER_ID_REUSED = "order_id_reused"
    UNKNOWN_ORDER = "unknown_order"
    """Its `PlaceOrder` didn't come within the time that the command was kept."""
    WRONG_USER = "wrong_user"
    TOO_LATE = "too_late"
    """The order is past its pivot, or has its outcome."""
    ALREADY_PAID = "already_paid"
    """Another `PayOrder` came first."""
    NOT_AWAITING_PAYMENT = "not_awaiting_payment"
    """The order is paid at once, or waits for nothing."""
    # stock
    UNKNOWN_PRODUCT = "unknown_product"
    INSUFFICIENT_STOCK = "insufficient_stock"
    """The adjustment would take more than is available."""
    STRATEGY_UNAVAILABLE = "strategy_unavailable"
    # coupon
    UNKNOWN_CAMPAIGN = "unknown_campaign"
    CAMPAIGN_CONFLICT = "campaign_conflict"
    """The change contradicts what was issued or published already."""
    INVALID_RULE = "invalid_rule"
    KIND_UNAVAILABLE = "kind_unavailable"
    NOT_A_LOTTERY = "not_a_lottery"
    ALREADY_DRAWN = "already_drawn"
    # wallet
    POINTS_UNAVAILABLE = "points_unavailable"
    # totals
    LIMIT_EXCEEDED = "limit_exceeded"
    """A running total would pass its limit (`MAX_TOTAL`)."""


class Refused(NamedTuple):
    """A decision on a command that can't be obeyed: nothing happened, and what to do instead.

    Not a verdict: stock that is out and money that isn't there have replies of their own.
    """

    reason: CommandRefusal
    detail: str


def _event_id(validated: dict[str, Any]) -> str:
    return "{command_id}:{command}:{reason}".format_map(validated)


class CommandRefused(Message):
    """`key` is the key of the command's topic: an order, product, campaign or user.

    `eventId` is `{commandId}:{command}:{reason}`, since one command has one answer for each
    reason, and one order may see many refused commands. A `PlaceOrder` has no command id of its
    own: its order id stands in. What can't be read at all is answered under its Kafka key, where
    that is an id: `commandId` is the key, partition and offset then. It has no `status` and no
    `version`: it changes no order.
    """

    identity = "event_id"
    type: Literal["CommandRefused"] = "CommandRefused"
    command_id: DerivedId
    command: CommandName
    key: Id
    reason: CommandRefusal
    detail: Note
    event_id: DerivedId = Field(default_factory=_event_id)
    at: Timestamp | None = None
