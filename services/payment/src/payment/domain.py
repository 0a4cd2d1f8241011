"""Payment's decisions on the commands of a saga. Pure.

The first verdict on an order is final: a refused charge stays refused when the wallet is topped
up. `PaymentRefused` means that no money moved and none will, so nothing is said of an order while
the gateway's answer isn't known, nor of one that was charged with other content.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from payment.calls import intend, void
from payment.records import Charge, Payment, charge_of
from payment.verdicts import charge_verdict, refund_verdict
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    CallKind,
    CallState,
    ChargePayment,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentState,
    RefundPayment,
)
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from payment.books import Books
    from payment.verdicts import SagaReply

SagaCommand: TypeAlias = ChargePayment | RefundPayment

_REFUNDABLE: Final = frozenset({PaymentState.CAPTURED, PaymentState.PENDING})


def decide(books: Books, command: SagaCommand, traceparent: str) -> SagaReply | Refused | None:
    """Decide a command. One that was decided before gets the same reply again, and one that waits
    for the gateway gets none yet."""
    match command:
        case ChargePayment():
            return _charge(books, command, traceparent)
        case RefundPayment():
            return _refund(books, command, traceparent)
        case _:
            assert_never(command)


def _charge(
    books: Books, command: ChargePayment, traceparent: str
) -> PaymentCharged | PaymentRefused | Refused | None:
    payment = books.payment(command.order_id)
    if payment is None and command.points > command.amount:
        return Refused(
            CommandRefusal.INVALID_COMMAND,
            f"{command.points} points of {command.amount} in all: points are a part of the amount",
        )
    if payment is None:
        payment = _first_charge(books, command, traceparent)
        books.put(payment)
    elif not payment.is_of(command):
        return Refused(
            CommandRefusal.COMMAND_ID_REUSED,
            f"order {command.order_id} was charged before with other content; the first charge"
            " counts, and an order is charged once",
        )
    return charge_verdict(payment, command.command_id)


def _first_charge(books: Books, command: ChargePayment, traceparent: str) -> Payment:
    """All of the amount or nothing: points first, and the rest from the wallet or by the gateway,
    which is asked for it while the points are held."""
    order_id, charge = command.order_id, charge_of(command)
    refusal = _refusal(books, charge)
    if refusal is not None:
        return Payment(order_id, PaymentState.REFUSED, charge, refusal)
    if not charge.by_gateway:
        return books.take(order_id, charge)
    payment = Payment(order_id, PaymentState.PENDING, charge)
    books.hold(payment, charge)
    books.hand_over(intend(command, CallKind.CHARGE, charge, books.lease, traceparent))
    return payment


def _refusal(books: Books, charge: Charge) -> PaymentRefusal | None:
    if charge.by_gateway and not books.has_gateway:
        return PaymentRefusal.METHOD_UNAVAILABLE
    wallet = books.ledger.wallet(charge.user_id)
    if not charge.currency == books.currency == wallet.currency:
        return PaymentRefusal.CURRENCY_MISMATCH
    from_wallet = charge.rest if charge.method is PaymentMethod.WALLET else 0
    if wallet.points < charge.points or wallet.balance < from_wallet:
        return PaymentRefusal.INSUFFICIENT_BALANCE
    return None


def _refund(books: Books, command: RefundPayment, traceparent: str) -> PaymentRefunded | None:
    payment = books.payment(command.order_id)
    if payment is None:
        payment = Payment(command.order_id, PaymentState.TOMBSTONE)
        books.put(payment)
    elif payment.charge is not None and payment.state in _REFUNDABLE:
        payment = _undo(books, payment, payment.charge, command, traceparent)
        books.put(payment)
    elif payment.state is PaymentState.CANCELLING:
        books.ask_now(books.call_of(CallKind.CHARGE, payment))
    elif payment.state is PaymentState.REFUNDING:
        books.ask_now(books.call_of(CallKind.REFUND, payment))
    return refund_verdict(payment, command.command_id)


def _undo(
    books: Books, payment: Payment, charge: Charge, command: RefundPayment, traceparent: str
) -> Payment:
    if not charge.by_gateway:
        return books.give_back(payment, charge)
    asked = books.call_of(CallKind.CHARGE, payment)
    refund = intend(command, CallKind.REFUND, charge, books.lease, traceparent)
    if payment.state is PaymentState.CAPTURED:
        books.hand_over(replace(refund, reference=asked.reference))
        return replace(payment, state=PaymentState.REFUNDING)
    if books.is_unsent(asked):
        books.put(void(asked))  # nobody has sent it, and nobody will
        books.put(void(refund))
        books.release(payment)
        return replace(payment, state=PaymentState.TOMBSTONE)
    books.put(replace(refund, state=CallState.WAITING))
    books.ask_now(asked)
    return replace(payment, state=PaymentState.CANCELLING)
