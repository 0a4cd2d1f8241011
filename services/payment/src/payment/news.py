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
from typing import TYPE_CHECKING, Final, NamedTuple

from payment.calls import Absent, Call, Finding, Pace, learn, quarantine, void
from payment.verdicts import charge_verdict, refund_verdict
from shared.contracts.payment import CallKind, CallState, PaymentRefusal, PaymentState

if TYPE_CHECKING:
    from datetime import datetime

    from payment.books import Books
    from payment.records import Payment
    from payment.verdicts import SagaReply

_ASKED_FOR: Final = frozenset({CallState.UNKNOWN, CallState.ABSENT, CallState.WATCHED})


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
    is_new = call.state is not before.state
    match call.kind, call.state:
        case CallKind.CHARGE, CallState.SUCCEEDED if is_new:
            return told.captured()
        case CallKind.CHARGE, CallState.DECLINED if is_new:
            return told.declined()
        case CallKind.REFUND, CallState.SUCCEEDED if is_new:
            return told.given_back()
    if call.state in _ASKED_FOR and pace.forgets(call, _sent_again_until(books, now)):
        told.forgotten()
    elif isinstance(finding.answer, Absent):
        return told.absent(finding.leased_at, now, pace)
    elif call.kind is CallKind.CHARGE and call.state is CallState.INTENDED and not call.sends:
        return told.not_sent()
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

    def absent(self, asked_at: datetime | None, now: datetime, pace: Pace) -> Settled | None:
        """The gateway said so itself, at `asked_at` at the earliest."""
        books, call = self.books, self.call
        match self.payment.state:
            case PaymentState.PENDING | PaymentState.REFUNDING:
                books.put(replace(call, next_at=now))  # to be sent again
            case PaymentState.CANCELLING if _may_be_on_its_way(call, asked_at):
                books.put(replace(call, next_at=call.expires_at))
            case _:
                watched = CallState.WATCHED
                books.put(replace(call, state=watched, next_at=now + pace.interval))
                if self.payment.state is PaymentState.CANCELLING:
                    return self._cancelled()
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
            self.books.put(replace(self.call, owner=None, next_at=None))  # watched no more
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


def _sent_again_until(books: Books, now: datetime) -> datetime:
    """Until when the gateway would take it, were it sent again at once."""
    return now if books.lease is None else books.lease.until


def _may_be_on_its_way(call: Call, asked_at: datetime | None) -> bool:
    """Whether a request may have been taken after the gateway said that it has none."""
    return call.expires_at is not None and (asked_at is None or asked_at < call.expires_at)
