"""What news of the gateway do to a payment. Pure.

                  PENDING          CANCELLING             TOMBSTONE, watched
captured          CAPTURED         refund it              refund it, and count it as late
declined          REFUSED          TOMBSTONE              -
not there         send again       TOMBSTONE, once no     watch on
                                   request can be on
                                   its way any more
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from payment.calls import Call, CallKind, CallState, Finding, Pace, learn, quarantine, void
from payment.records import Payment, PaymentState
from payment.verdicts import charge_verdict, refund_verdict
from shared.contracts.payment import (
    PaymentCharged,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
)

if TYPE_CHECKING:
    from datetime import datetime

    from payment.books import Books

SagaReply: TypeAlias = PaymentCharged | PaymentRefused | PaymentRefunded


class Settled(NamedTuple):
    """A reply that has become possible, to the command of `call`."""

    call: Call
    reply: SagaReply


def settle(books: Books, finding: Finding, now: datetime, pace: Pace) -> Settled | None:
    """Take what was found out about a call; the reply that this makes possible, if any."""
    before = books.call(finding.key)
    if before is None:
        return None
    payment = books.payment(before.order_id)
    assert payment is not None  # a call has its payment
    call = learn(before, finding, now, pace)
    if call == before:
        return None
    books.put(call)
    told = _Told(books, payment, call)
    sent_until = now if books.lease is None else books.lease.until  # were it sent again at once
    is_new = call.state is not before.state
    match call.kind, call.state:
        case CallKind.CHARGE, CallState.SUCCEEDED if is_new:
            return told.captured()
        case CallKind.CHARGE, CallState.DECLINED if is_new:
            return told.declined()
        case CallKind.REFUND, CallState.SUCCEEDED if is_new:
            return told.given_back()
        case _, CallState.UNKNOWN | CallState.ABSENT if pace.forgets(call, sent_until):
            told.forgotten()
        case CallKind.CHARGE, CallState.ABSENT:
            return told.absent(finding.leased_at or now, now, pace)
        case CallKind.CHARGE, CallState.INTENDED if not call.sends:
            return told.not_sent()
        case CallKind.REFUND, CallState.ABSENT:
            books.put(replace(call, next_at=now))  # to be sent again
    return None


@dataclass(frozen=True, slots=True)
class _Told:
    """One piece of news, and what it is about."""

    books: Books
    payment: Payment
    call: Call

    def captured(self) -> Settled | None:
        books, payment, charge = self.books, self.payment, self.payment.charge
        assert charge is not None  # a call has its charge
        if payment.state is PaymentState.REFUSED:
            books.put(quarantine(self.call, "captured after it was declined"))
            return None
        is_late = payment.state is PaymentState.TOMBSTONE
        taken = books.collect(payment, charge, points=0 if is_late else charge.points)
        if payment.state is PaymentState.PENDING:
            return self._charged(replace(taken, state=PaymentState.CAPTURED))
        books.put(replace(taken, state=PaymentState.REFUNDING, is_late=is_late))
        books.late_captures += is_late
        refund = books.call_of(CallKind.REFUND, payment)
        refund = replace(refund, reference=self.call.reference)
        if refund.state is CallState.QUARANTINED:
            books.put(refund)
        else:
            books.hand_over(replace(refund, state=CallState.INTENDED))
        return None

    def declined(self) -> Settled | None:
        match self.payment.state:
            case PaymentState.PENDING:
                self.books.release(self.payment)
                return self._charged(
                    replace(
                        self.payment,
                        state=PaymentState.REFUSED,
                        refusal=PaymentRefusal.PAYMENT_DECLINED,
                    )
                )
            case PaymentState.CANCELLING:
                return self._cancelled()
            case _:
                return None  # a tombstone needs no watching any more

    def absent(self, asked_at: datetime, now: datetime, pace: Pace) -> Settled | None:
        """`asked_at` is the earliest moment at which the gateway can have said so."""
        books, call = self.books, self.call
        match self.payment.state:
            case PaymentState.PENDING:
                books.put(replace(call, next_at=now))  # to be sent again
            case PaymentState.CANCELLING if call.expires_at and asked_at < call.expires_at:
                books.put(replace(call, next_at=call.expires_at))
            case PaymentState.CANCELLING:
                books.put(replace(call, next_at=now + pace.interval))
                return self._cancelled()
            case _:
                books.put(replace(call, next_at=now + pace.interval))
        return None

    def not_sent(self) -> Settled | None:
        """Nothing was ever sent: where nobody wants it any more, nothing will be."""
        if self.payment.state is not PaymentState.CANCELLING:
            return None
        self.books.put(void(self.call))
        return self._cancelled()

    def forgotten(self) -> None:
        """From here on the same key could mean a second charge, or a second refund."""
        if self.payment.state is PaymentState.TOMBSTONE:
            watched = replace(self.call, state=CallState.ABSENT, owner=None, next_at=None)
            self.books.put(watched)
        else:
            why = "unknown for as long as the gateway keeps its keys"
            self.books.put(quarantine(self.call, why))

    def given_back(self) -> Settled | None:
        charge = self.payment.charge
        assert charge is not None  # a call has its charge
        if self.payment.state is not PaymentState.REFUNDING:
            self.books.put(quarantine(self.call, "given back before it was asked for"))
            return None
        payment = self.books.give_back(self.payment, charge)
        self.books.put(payment)
        return None if payment.is_late else self._refunded(payment, self.call)

    def _charged(self, payment: Payment) -> Settled | None:
        self.books.put(payment)
        reply = charge_verdict(payment, self.call.command_id)
        return None if reply is None else Settled(self.call, reply)

    def _cancelled(self) -> Settled | None:
        """No money moved, as far as anybody can know."""
        self.books.release(self.payment)
        payment = replace(self.payment, state=PaymentState.TOMBSTONE)
        self.books.put(payment)
        refund = void(self.books.call_of(CallKind.REFUND, payment))
        self.books.put(refund)
        return self._refunded(payment, refund)

    def _refunded(self, payment: Payment, refund: Call) -> Settled | None:
        reply = refund_verdict(payment, refund.command_id)
        return None if reply is None else Settled(refund, reply)
