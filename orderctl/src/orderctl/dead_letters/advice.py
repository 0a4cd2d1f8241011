"""What is to be done about a dead letter. Pure: from the letter, the contract and the inbox.

A replay of what was obeyed is harmless: its inbox knows it. What this decides is whether a replay
has any use, since one that is refused again only leaves a second letter.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from orderctl.dead_letters.inboxes import Known
from orderctl.dead_letters.letter import reader_for
from shared.contracts.reading import Unreadable
from shared.contracts.refusals import CommandRefusal
from shared.contracts.topics import TOPICS, service_of
from shared.pipeline.chunk import FAULTY

if TYPE_CHECKING:
    from orderctl.dead_letters.letter import Letter
    from shared.contracts.base import Message

ORDERS: Final = "orders.commands.v1"
OTHER_ORDER: Final = "other_order"
UNREADABLE_SAGA: Final = "unreadable_saga"
UNREADABLE_REASONS: Final = (
    "empty", "too_large", "too_deep", "not_json", "invalid", "unknown_type",
)  # fmt: skip
"""As readers say them (`shared.contracts.reading`)."""


class Remedy(StrEnum):
    """What helps."""

    REPLAY = "replay"
    """As it is."""
    EDIT = "edit"
    """Replay an edited value."""
    NOTHING = "nothing"


class Advice(NamedTuple):
    """What helps, and why, as one or two sentences."""

    remedy: Remedy
    why: str


_NEW_ID: Final = "to ask for something else, send it under a new id"

BY_REASON: Final = {
    CommandRefusal.INVALID_COMMAND: (Remedy.EDIT, "its content can't be obeyed"),
    CommandRefusal.COMMAND_ID_REUSED: (
        Remedy.NOTHING, f"its id stands for other content, which came first and counts; {_NEW_ID}",
    ),
    CommandRefusal.ORDER_ID_REUSED: (
        Remedy.NOTHING, f"the order was placed with other content, which counts; {_NEW_ID}",
    ),
    CommandRefusal.TEMPORARILY_UNAVAILABLE: (
        Remedy.REPLAY, "what it needs was away or set aside: replay it once that is mended",
    ),
    CommandRefusal.CURRENCY_MISMATCH: (
        Remedy.EDIT, "its currency is not this deployment's; the sender is to be told",
    ),
    CommandRefusal.UNKNOWN_ORDER: (
        Remedy.REPLAY,
        "its order was not there, or is another user's: replay it only if the order came since",
    ),
    CommandRefusal.WRONG_USER: (Remedy.NOTHING, "the order is another user's"),
    CommandRefusal.TOO_LATE: (
        Remedy.NOTHING, "the order was past its pivot or had its outcome; that is final",
    ),
    CommandRefusal.ALREADY_PAID: (Remedy.NOTHING, "another payment of the order came first"),
    CommandRefusal.NOT_AWAITING_PAYMENT: (Remedy.NOTHING, "the order waits for no payment"),
    CommandRefusal.UNKNOWN_PRODUCT: (
        Remedy.REPLAY, "the product was not there: put it (PutProduct), then replay this",
    ),
    CommandRefusal.INSUFFICIENT_STOCK: (
        Remedy.REPLAY, "it would take more than there was: replay it once there is enough",
    ),
    CommandRefusal.STRATEGY_UNAVAILABLE: (
        Remedy.EDIT, "this deployment doesn't know that strategy; ask for another",
    ),
    CommandRefusal.UNKNOWN_CAMPAIGN: (
        Remedy.REPLAY, "the campaign was not there: put it (PutCampaign), then replay this",
    ),
    CommandRefusal.CAMPAIGN_CONFLICT: (
        Remedy.EDIT, "it contradicts what was issued or published already",
    ),
    CommandRefusal.INVALID_RULE: (Remedy.EDIT, "the campaign's rule can't be used"),
    CommandRefusal.KIND_UNAVAILABLE: (
        Remedy.EDIT, "this deployment doesn't know that kind of campaign",
    ),
    CommandRefusal.NOT_A_LOTTERY: (Remedy.NOTHING, "the campaign is no lottery"),
    CommandRefusal.ALREADY_DRAWN: (Remedy.NOTHING, "the lottery was drawn; that is final"),
    CommandRefusal.POINTS_UNAVAILABLE: (
        Remedy.EDIT, "points can't be used here; pay without them",
    ),
    CommandRefusal.LIMIT_EXCEEDED: (
        Remedy.EDIT, "a running total would pass its limit; ask for less",
    ),
    FAULTY: (
        Remedy.REPLAY, "its service failed on it: mend the bug or the data first, then replay this",
    ),
    UNREADABLE_SAGA: (
        Remedy.REPLAY, "the order's saga could not be read: replay this once its row is mended",
    ),
    OTHER_ORDER: (
        Remedy.NOTHING, "it answers one order's command under another order's id: a sender's bug",
    ),
}  # fmt: skip
"""Of messages that can be read, by the reason why they were not obeyed."""


def advise(letter: Letter, known: Known) -> Advice:
    """What helps with that letter, where the inbox says `known` of its message."""
    if reader_for(letter.origin) is None:
        return Advice(Remedy.NOTHING, _no_message(letter))
    inbox = f"the inbox of {service_of(letter.group)}"
    if known is Known.OBEYED:
        return Advice(Remedy.NOTHING, f"it was obeyed since: {inbox} has it")
    if known is Known.OTHERWISE:
        return Advice(
            Remedy.NOTHING,
            f"{inbox} has other content under its id, which counts: a replay would be refused;"
            f" {_NEW_ID}",
        )
    if letter.is_cut:
        return Advice(
            Remedy.EDIT, "only the beginning of its value was kept: the sender has the whole"
        )
    message = letter.read()
    if isinstance(message, Unreadable):
        return Advice(Remedy.EDIT, _unreadable(letter, message))
    if letter.reason in UNREADABLE_REASONS:
        return _readable_since(letter, message)
    remedy, why = BY_REASON.get(
        letter.reason, (Remedy.REPLAY, "this tool doesn't know the reason: see the error")
    )
    return Advice(remedy, why)


def used_up(letter: Letter) -> str | None:
    """The order id that an unreadable `PlaceOrder` has used up: its order is stored as rejected,
    and other content under that id is refused."""
    found = letter.read()
    if letter.origin != ORDERS or letter.reason not in UNREADABLE_REASONS:
        return None
    if isinstance(found, Unreadable):
        return found.order_id if found.type == "PlaceOrder" else None
    order_id: str | None = getattr(found, "order_id", None)
    return order_id if found.type == "PlaceOrder" and letter.reason == "invalid" else None


def _no_message(letter: Letter) -> str:
    topic = TOPICS.get(letter.origin)
    if topic is not None and topic.kind == "dead_letters":
        return (
            f"it is a letter about the letter at {letter.origin_place}, of which no saga could be"
            " told: look at that one, and at the order"
        )
    return "it doesn't say from which topic of the contract it came"


def _unreadable(letter: Letter, found: Unreadable) -> str:
    order = used_up(letter)
    if order is not None:
        return (
            f"order {order} was rejected for it (invalid_command) and its sender told, unless it"
            " was placed before; a corrected order needs another orderId"
        )
    if letter.is_of_saga:
        return (
            "a saga waits for it: correct the fields and leave its ids as they are; the service"
            " that wrote it has a bug, or another version"
        )
    if found.reason == "unknown_type":
        return "nobody knows that type: update the service, or correct the type"
    return "nobody can read it: correct it, or let its sender send it again"


def _readable_since(letter: Letter, message: Message) -> Advice:
    order = used_up(letter)
    if order is not None:
        return Advice(
            Remedy.EDIT,
            f"the contract reads it by now, but order {order} was rejected for it; give the order"
            " another orderId",
        )
    return Advice(
        Remedy.REPLAY,
        f"the contract reads this {message.type} by now: replay it once its service is as new",
    )
