"""Reading the dead letters of internal topics: which order's step will get no answer."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import ValidationError

from shared.contracts.base import DerivedId, Id, Message
from shared.contracts.reading import MAX_BYTES, MAX_DEPTH, Reader, Unreadable, deeper_than


class DeadLetteredStep(Message):
    """What a dead letter has to say for its saga to be found."""

    type: Literal["DeadLetteredStep"] = "DeadLetteredStep"
    command_id: DerivedId
    order_id: Id


class DeadLetterReader(Reader):
    """Reads the ids out of whatever was dead-lettered; what has none is no saga's."""

    def __init__(self) -> None:
        """Dead letters are untrusted: they are there because something couldn't bear them."""
        super().__init__((DeadLetteredStep,), public=True)

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
