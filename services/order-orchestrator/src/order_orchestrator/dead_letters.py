"""Dead letters: which step will get no answer, and which messages no saga can take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from shared.contracts.base import DerivedId, Id, Message, digest
from shared.contracts.reading import MAX_BYTES, MAX_DEPTH, Reader, Unreadable, deeper_than
from shared.pipeline import Refusal
from shared.pipeline.dead_letters import REASON_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.pipeline import Delivery

UNREADABLE_SAGA: Final = "unreadable_saga"
OTHER_ORDER: Final = "other_order"
REASON_CHARS: Final = 100


class DeadLetteredStep(Message):
    """What a dead letter has to say for its saga to be found."""

    type: Literal["DeadLetteredStep"] = "DeadLetteredStep"
    command_id: DerivedId
    order_id: Id
    reason: str = "no reason given"

    def fingerprint(self) -> bytes:
        """The step alone: a command may be dead-lettered again, for another reason."""
        return digest(f"DeadLetteredStep|{self.command_id}|{self.order_id}".encode())


class DeadLetterReader(Reader):
    """Reads the ids out of whatever was dead-lettered; what has none is no saga's."""

    def __init__(self) -> None:
        """Dead letters are untrusted: they are there because something couldn't bear them."""
        super().__init__((DeadLetteredStep,), public=True)

    def read_record(
        self, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> DeadLetteredStep | Unreadable:
        """The step with the reason in the headers."""
        step = self.read(value)
        reason = next((content for name, content in headers if name == REASON_HEADER), None)
        if isinstance(step, Unreadable) or reason is None:
            return step
        return step.model_copy(update={"reason": reason.decode(errors="replace")[:REASON_CHARS]})

    def read(self, value: bytes | None) -> DeadLetteredStep | Unreadable:
        """The step, or `unknown_type`, which readers of dead letters skip. Never raises."""
        none = Unreadable("unknown_type", "no command or reply of a saga")
        if not value or len(value) > MAX_BYTES or deeper_than(value, MAX_DEPTH):
            return none
        try:
            fields = json.loads(value)
            return DeadLetteredStep(command_id=fields["commandId"], order_id=fields["orderId"])
        except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
            return none


def set_aside(delivery: Delivery, reason: str) -> Refusal:
    """A message to a saga whose row can't be read. That the row is set aside is committed with
    the dead letter, which an exception would undo."""
    detail = "the order's saga can't be read; replay this once it is mended"
    return Refusal(delivery.received, reason, detail, delivery.message)


def of_another_order(delivery: Delivery) -> Refusal:
    """A reply to one order's command under another order's id. Were it remembered, the true
    reply to that command would be refused as the misuse of its id."""
    detail = f"the reply to {delivery.message_id} names another order"
    return Refusal(delivery.received, OTHER_ORDER, detail, delivery.message)
