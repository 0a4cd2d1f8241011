"""An operator's word that no money of an order is at the gateway any more. Pure.

                      PENDING   CANCELLING   REFUNDING   REFUSED   TOMBSTONE
charge quarantined    REFUSED   TOMBSTONE    -           nothing   nothing
refund quarantined    -         not yet      REFUNDED    -         nothing

What is closed is what is quarantined; the reply that this makes possible is said. A refund whose
charge has no outcome yet can't be closed: money may still be taken, and then it has to go back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from payment.calls import RETURNED, Call, Declined, Finding, Pace, Refunded, key_of, void
from payment.news import Settled, settle
from shared.contracts.payment import CallKind, CallState, PaymentState

if TYPE_CHECKING:
    from datetime import datetime

    from payment.books import Books


class Closed(NamedTuple):
    """What an operator's word did."""

    keys: tuple[str, ...]
    """Of the calls that are not quarantined any more."""
    settled: tuple[Settled, ...]
    """What can be said now."""


def close(books: Books, order_id: str, now: datetime, pace: Pace) -> Closed:
    """Take it that no money of this order is at the gateway; nothing changes where none of its
    calls is quarantined."""
    held = [call for kind in CallKind if (call := _quarantined(books, kind, order_id))]
    settled = []
    for kind in CallKind:  # the charge first: its decline makes its refund void
        call = _quarantined(books, kind, order_id)
        if call is not None and (told := _close(books, call, now, pace)) is not None:
            settled.append(told)
    keys = [call.key for call in held if _quarantined(books, call.kind, order_id) is None]
    return Closed(tuple(keys), tuple(settled))


def _quarantined(books: Books, kind: CallKind, order_id: str) -> Call | None:
    call = books.call(key_of(kind, order_id))
    return call if call is not None and call.state is CallState.QUARANTINED else None


def _close(books: Books, call: Call, now: datetime, pace: Pace) -> Settled | None:
    if call.kind is CallKind.CHARGE:
        return settle(books, Finding(call.key, Declined(RETURNED)), now, pace)
    payment = books.payment(call.order_id)
    assert payment is not None  # a call has its payment
    match payment.state:
        case PaymentState.REFUNDING:
            given_back = Refunded(call.amount, call.currency)
            return settle(books, Finding(call.key, given_back), now, pace)
        case PaymentState.TOMBSTONE:
            books.put(void(call))  # given back before it was asked for, and it never was
    return None
