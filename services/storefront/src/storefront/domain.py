"""What becomes of a question, decided from what is heard: pure.

    place, pay, cancel  ->  a command  ->  events of the order  ->  one answer

A question waits for the first event that settles it. What is heard of the order before that is
only news.
"""

from __future__ import annotations

import base64
import hashlib
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.order_document import OrderDocument, document_of
from shared.contracts.order_parts import OrderStatus
from shared.contracts.refusals import CommandRefusal, CommandRefused

if TYPE_CHECKING:
    from shared.contracts.base import Message


class Question(StrEnum):
    """What a user wants of an order."""

    PLACE = "place"
    PAY = "pay"
    CANCEL = "cancel"


_S, _Q = OrderStatus, Question
_GRANTED: Final = {
    _Q.PLACE: frozenset({_S.AWAITING_PAYMENT, _S.CONFIRMED}),
    _Q.PAY: frozenset({_S.CONFIRMED}),
    _Q.CANCEL: frozenset({_S.CANCELLED}),
}
OUTCOMES: Final = frozenset({_S.CONFIRMED, _S.REJECTED, _S.CANCELLED})


class Answer(NamedTuple):
    """What is said to whoever asked."""

    status: HTTPStatus
    order: OrderDocument | None
    reason: str | None = None
    detail: str | None = None

    @property
    def is_problem(self) -> bool:
        """Whether it is a no."""
        return self.status >= HTTPStatus.BAD_REQUEST


def answer_of(question: Question, order: OrderDocument) -> Answer | None:
    """What the order's state answers; None where that isn't settled yet."""
    if order.status in _GRANTED[question]:
        return Answer(HTTPStatus.OK, order)
    if order.status not in OUTCOMES:
        return None
    reason = order.reason or CommandRefusal.TOO_LATE
    return Answer(
        HTTPStatus.CONFLICT, order, reason, f"the order is {order.status}: {_words(reason)}"
    )


def heard(question: Question, event: Message, command_id: str) -> Answer | OrderDocument | None:
    """What an event of the order means for a question that sent `command_id`.

    An answer, or the order where that is news, or None where the event is no concern of it.
    """
    if isinstance(event, CommandRefused):
        return refused(event) if event.command_id == command_id else None
    order = document_of(event)
    return answer_of(question, order) or order


_REFUSED: Final = {
    CommandRefusal.UNKNOWN_ORDER: HTTPStatus.NOT_FOUND,
    CommandRefusal.TEMPORARILY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    CommandRefusal.COMMAND_ID_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    CommandRefusal.ORDER_ID_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    CommandRefusal.INVALID_COMMAND: HTTPStatus.BAD_REQUEST,
}


def refused(event: CommandRefused) -> Answer:
    """The answer to a command that can't be obeyed."""
    status = _REFUSED.get(event.reason, HTTPStatus.CONFLICT)
    return Answer(status, None, event.reason, event.detail)


def key_id(*parts: str) -> str:
    """An id that is always the same for the same parts: `h-` and 26 characters of their SHA-256
    in base 32, so that a request that comes again makes the same command."""
    joined = "\x00".join(parts).encode()
    digest = base64.b32encode(hashlib.sha256(joined).digest()).decode().lower()
    return f"h-{digest[:26]}"


def _words(reason: str) -> str:
    return reason.replace("_", " ")
