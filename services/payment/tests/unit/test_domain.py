"""Each decision of payment, one example a rule."""

from __future__ import annotations

from typing import Any

import pytest

from payment.books import Books
from payment.domain import decide
from payment.ledger import Entry, House
from payment.records import FINGERPRINT_VERSION, Payment, Wallet, fingerprint
from payment.wallets import fulfil
from shared.contracts.base import MAX_MONEY, MAX_TOTAL
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    ChargePayment,
    PaymentCharged,
    PaymentPart,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentSource,
    PaymentState,
    RefundPayment,
    TopUpWallet,
)
from shared.contracts.refusals import CommandRefusal, Refused


def charge(order_id: str = "o1", amount: int = 60, **changes: Any) -> ChargePayment:
    fields: dict[str, Any] = {
        "command_id": f"{order_id}:charge:do",
        "order_id": order_id,
        "user_id": "u1",
        "amount": amount,
        "currency": "KRW",
        "method": PaymentMethod.WALLET,
        "points": 0,
    }
    return ChargePayment(**(fields | changes))


def refund(order_id: str = "o1") -> RefundPayment:
    return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)


def top_up(amount: int, command_id: str = "t1", **changes: Any) -> TopUpWallet:
    fields: dict[str, Any] = {"user_id": "u1", "currency": "KRW"} | changes
    return TopUpWallet(command_id=command_id, amount=amount, **fields)


def books_of(
    balance: int | None = 100, *payments: Payment, currency: str = "KRW", points: int = 0
) -> Books:
    """As a deployment without a gateway has them."""
    wallets = [] if balance is None else [Wallet("u1", "KRW", balance, points)]
    return Books(currency, has_gateway=False, payments=payments, wallets=wallets)


def apply(books: Books, command: ChargePayment | RefundPayment) -> object:
    return decide(books, command, "")


def ask(books: Books, request: TopUpWallet) -> object:
    return fulfil(books.ledger, request, books.currency)


def charged(order_id: str = "o1", amount: int = 60) -> PaymentCharged:
    return PaymentCharged(
        command_id=f"{order_id}:charge:do",
        order_id=order_id,
        currency="KRW",
        parts=(PaymentPart(source=PaymentSource.WALLET, amount=amount),),
    )


def refused(reason: PaymentRefusal, order_id: str = "o1") -> PaymentRefused:
    return PaymentRefused(command_id=f"{order_id}:charge:do", order_id=order_id, reason=reason)


def refunded(effect: Effect, order_id: str = "o1") -> PaymentRefunded:
    return PaymentRefunded(command_id=f"{order_id}:charge:undo", order_id=order_id, effect=effect)


def test_charge_moves_money_from_the_wallet_to_the_house() -> None:
    books = books_of(100)

    assert apply(books, charge(amount=60)) == charged(amount=60)

    assert books.ledger.changed_wallets == [Wallet("u1", "KRW", 40)]
    assert books.ledger.entries == [
        Entry("payment:o1", "wallet:u1", -60, "KRW"),
        Entry("payment:o1", House.REVENUE, 60, "KRW"),
    ]
    (payment,) = books.new_payments
    assert (payment.state, payment.captured, payment.refunded) == (PaymentState.CAPTURED, 60, 0)


def test_the_last_unit_of_money_can_be_spent() -> None:
    books = books_of(60)
    assert apply(books, charge(amount=60)) == charged(amount=60)
    assert apply(books, charge("o2", amount=1)) == refused(
        PaymentRefusal.INSUFFICIENT_BALANCE, "o2"
    )


@pytest.mark.parametrize("balance", [None, 0, 59])
def test_charge_without_enough_money_is_refused_and_moves_nothing(balance: int | None) -> None:
    books = books_of(balance)

    assert apply(books, charge(amount=60)) == refused(PaymentRefusal.INSUFFICIENT_BALANCE)

    assert not books.ledger.entries
    assert not books.ledger.changed_wallets
    assert not books.ledger.new_wallets
    (payment,) = books.new_payments
    assert (payment.state, payment.captured) == (PaymentState.REFUSED, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": PaymentMethod.GATEWAY}, PaymentRefusal.METHOD_UNAVAILABLE),
        ({"points": 1}, PaymentRefusal.INSUFFICIENT_BALANCE),
        ({"currency": "USD"}, PaymentRefusal.CURRENCY_MISMATCH),
    ],
)
def test_f7_what_this_deployment_takes_no_payment_in_is_refused(
    changes: dict[str, Any], reason: PaymentRefusal
) -> None:
    books = books_of(100)
    assert apply(books, charge(**changes)) == refused(reason)
    assert not books.ledger.entries


def test_f7_a_wallet_of_another_currency_pays_nothing() -> None:
    """As after the deployment's currency was changed: amounts of two currencies never mix."""
    books = books_of(100, currency="USD")
    assert apply(books, charge(currency="USD")) == refused(PaymentRefusal.CURRENCY_MISMATCH)
    assert apply(books, charge("o2")) == refused(PaymentRefusal.CURRENCY_MISMATCH, "o2")
    for currency in ("USD", "KRW"):
        answer = ask(books, top_up(1, currency=currency))
        assert isinstance(answer, Refused)
        assert answer.reason is CommandRefusal.CURRENCY_MISMATCH
    assert not books.ledger.entries


def test_f1_a_duplicate_charge_gets_the_same_reply_and_moves_nothing() -> None:
    first = books_of(100)
    reply = apply(first, charge())
    again = books_of(40, *first.new_payments)

    assert apply(again, charge()) == reply

    assert not again.ledger.entries
    assert not again.new_payments
    assert not again.changed_payments
    assert not again.ledger.changed_wallets


def test_f3_a_refused_charge_stays_refused_when_the_wallet_is_full() -> None:
    first = books_of(0)
    apply(first, charge())
    later = books_of(1_000, *first.new_payments)
    assert apply(later, charge()) == refused(PaymentRefusal.INSUFFICIENT_BALANCE)
    assert not later.ledger.entries


def test_refund_gives_back_what_was_taken_once() -> None:
    books = books_of(100)
    apply(books, charge(amount=60))

    assert apply(books, refund()) == refunded(Effect.UNDONE)
    assert apply(books, refund()) == refunded(Effect.UNDONE)

    assert [entry for entry in books.ledger.entries if entry.transaction_id == "refund:o1"] == [
        Entry("refund:o1", "wallet:u1", 60, "KRW"),
        Entry("refund:o1", House.REVENUE, -60, "KRW"),
    ]
    assert books.ledger.changed_wallets == [Wallet("u1", "KRW", 100)]
    (payment,) = books.new_payments
    assert (payment.state, payment.captured, payment.refunded) == (PaymentState.REFUNDED, 60, 60)


def test_a_charge_repeated_after_its_refund_gets_its_first_verdict_and_moves_nothing() -> None:
    books = books_of(100)
    apply(books, charge())
    apply(books, refund())
    entries = list(books.ledger.entries)
    assert apply(books, charge()) == charged()
    assert books.ledger.entries == entries


def test_f14_refund_before_charge_leaves_a_tombstone_and_the_charge_is_refused() -> None:
    books = books_of(100)

    assert apply(books, refund()) == refunded(Effect.NOTHING)
    assert apply(books, charge()) == refused(PaymentRefusal.ALREADY_REFUNDED)
    assert apply(books, refund()) == refunded(Effect.NOTHING)

    assert books.new_payments == [Payment("o1", PaymentState.TOMBSTONE)]
    assert not books.ledger.entries


def test_refund_of_a_refused_payment_finds_nothing_and_the_refusal_stays() -> None:
    books = books_of(0)
    apply(books, charge())
    assert apply(books, refund()) == refunded(Effect.NOTHING)
    assert apply(books, charge()) == refused(PaymentRefusal.INSUFFICIENT_BALANCE)
    assert not books.ledger.entries


@pytest.mark.parametrize(
    "changes",
    [{"user_id": "u2"}, {"amount": 61}, {"points": 1}, {"method": PaymentMethod.GATEWAY},
     {"currency": "USD"}],
)  # fmt: skip
@pytest.mark.parametrize("balance", [0, 100])
def test_f29_other_content_for_a_charged_order_is_no_verdict(
    balance: int, changes: dict[str, Any]
) -> None:
    """It would be a lie: the money of this order may have moved."""
    books = books_of(balance)
    apply(books, charge())
    entries, payments = list(books.ledger.entries), books.new_payments

    answer = apply(books, charge(**({"command_id": "o1:charge:other"} | changes)))

    assert isinstance(answer, Refused)
    assert answer.reason is CommandRefusal.COMMAND_ID_REUSED
    assert "o1" in answer.detail
    assert (books.ledger.entries, books.new_payments) == (entries, payments)


def test_the_fingerprint_of_released_rows_does_not_change() -> None:
    """Rows keep it for good. When the fields change, add a version, and leave this one be."""
    assert FINGERPRINT_VERSION == 1
    assert fingerprint(charge(), 1).hex() == "47b45164f9953e58f288cb98912cf07e"
    with pytest.raises(KeyError):
        fingerprint(charge(), 99)


def test_a_refund_into_a_full_wallet_is_never_refused() -> None:
    """An undo has one reply, done: the limit holds for top-ups alone."""
    first = books_of(MAX_MONEY)
    apply(first, charge(amount=MAX_MONEY))
    later = books_of(MAX_TOTAL, *first.new_payments)
    assert apply(later, refund()) == refunded(Effect.UNDONE)
    assert later.ledger.changed_wallets == [Wallet("u1", "KRW", MAX_TOTAL + MAX_MONEY)]


def test_points_are_taken_first_and_the_rest_from_the_wallet() -> None:
    books = books_of(100, points=30)

    assert apply(books, charge(amount=60, points=20)) == PaymentCharged(
        command_id="o1:charge:do",
        order_id="o1",
        currency="KRW",
        parts=(
            PaymentPart(source=PaymentSource.POINTS, amount=20),
            PaymentPart(source=PaymentSource.WALLET, amount=40),
        ),
    )

    assert books.ledger.changed_wallets == [Wallet("u1", "KRW", 60, 10)]
    assert books.ledger.entries == [
        Entry("payment:o1", "points:u1", -20, "KRW"),
        Entry("payment:o1", "wallet:u1", -40, "KRW"),
        Entry("payment:o1", House.REVENUE, 60, "KRW"),
    ]
    assert apply(books, refund()) == refunded(Effect.UNDONE)
    assert books.ledger.changed_wallets == [Wallet("u1", "KRW", 100, 30)]


@pytest.mark.parametrize("method", list(PaymentMethod))
def test_a_charge_in_points_alone_needs_no_money_and_no_gateway(method: PaymentMethod) -> None:
    books = books_of(0, points=60)
    assert apply(books, charge(amount=60, points=60, method=method)) == PaymentCharged(
        command_id="o1:charge:do",
        order_id="o1",
        currency="KRW",
        parts=(PaymentPart(source=PaymentSource.POINTS, amount=60),),
    )
    assert apply(books, refund()) == refunded(Effect.UNDONE)
    assert books.ledger.wallet("u1") == Wallet("u1", "KRW", 0, 60)


@pytest.mark.parametrize(("balance", "points"), [(39, 20), (40, 19), (100, 0), (0, 60)])
def test_points_and_money_are_taken_together_or_not_at_all(balance: int, points: int) -> None:
    """Neither stands in for the other."""
    books = books_of(balance, points=points)
    assert apply(books, charge(amount=60, points=20)) == refused(
        PaymentRefusal.INSUFFICIENT_BALANCE
    )
    assert not books.ledger.entries
