"""Each decision of payment, one example a rule."""

from __future__ import annotations

from typing import Any

import pytest

from payment.domain import (
    FINGERPRINT_VERSION,
    REVENUE,
    TREASURY,
    Entry,
    Fold,
    Payment,
    PaymentState,
    Refused,
    Wallet,
    fingerprint,
)
from shared.contracts.base import MAX_MONEY, MAX_TOTAL
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    ChargePayment,
    GrantPoints,
    PaymentCharged,
    PaymentPart,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentSource,
    RefundPayment,
    TopUpWallet,
    WalletToppedUp,
)
from shared.contracts.refusals import CommandRefusal


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


def fold_of(balance: int | None = 100, *payments: Payment, currency: str = "KRW") -> Fold:
    wallets = [] if balance is None else [Wallet("u1", "KRW", balance)]
    return Fold(payments, wallets, currency)


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
    fold = fold_of(100)

    assert fold.apply(charge(amount=60)) == charged(amount=60)

    assert fold.changed_wallets == [Wallet("u1", "KRW", 40)]
    assert fold.entries == [
        Entry("payment:o1", "wallet:u1", -60, "KRW"),
        Entry("payment:o1", REVENUE, 60, "KRW"),
    ]
    (payment,) = fold.new_payments
    assert (payment.state, payment.captured, payment.refunded) == (PaymentState.CAPTURED, 60, 0)


def test_the_last_unit_of_money_can_be_spent() -> None:
    fold = fold_of(60)
    assert fold.apply(charge(amount=60)) == charged(amount=60)
    assert fold.apply(charge("o2", amount=1)) == refused(PaymentRefusal.INSUFFICIENT_BALANCE, "o2")


@pytest.mark.parametrize("balance", [None, 0, 59])
def test_charge_without_enough_money_is_refused_and_moves_nothing(balance: int | None) -> None:
    fold = fold_of(balance)

    assert fold.apply(charge(amount=60)) == refused(PaymentRefusal.INSUFFICIENT_BALANCE)

    assert not fold.entries
    assert not fold.changed_wallets
    assert not fold.new_wallets
    (payment,) = fold.new_payments
    assert (payment.state, payment.captured) == (PaymentState.REFUSED, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": PaymentMethod.GATEWAY}, PaymentRefusal.METHOD_UNAVAILABLE),
        ({"points": 1}, PaymentRefusal.METHOD_UNAVAILABLE),
        ({"currency": "USD"}, PaymentRefusal.CURRENCY_MISMATCH),
    ],
)
def test_f7_what_this_deployment_takes_no_payment_in_is_refused(
    changes: dict[str, Any], reason: PaymentRefusal
) -> None:
    fold = fold_of(100)
    assert fold.apply(charge(**changes)) == refused(reason)
    assert not fold.entries


def test_f7_a_wallet_of_another_currency_pays_nothing() -> None:
    """As after the deployment's currency was changed: amounts of two currencies never mix."""
    fold = fold_of(100, currency="USD")
    assert fold.apply(charge(currency="USD")) == refused(PaymentRefusal.CURRENCY_MISMATCH)
    assert fold.apply(charge("o2")) == refused(PaymentRefusal.CURRENCY_MISMATCH, "o2")
    for currency in ("USD", "KRW"):
        answer = fold.fulfil(top_up(1, currency=currency))
        assert isinstance(answer, Refused)
        assert answer.reason is CommandRefusal.CURRENCY_MISMATCH
    assert not fold.entries


def test_f1_a_duplicate_charge_gets_the_same_reply_and_moves_nothing() -> None:
    first = fold_of(100)
    reply = first.apply(charge())
    again = fold_of(40, *first.new_payments)

    assert again.apply(charge()) == reply

    assert not again.entries
    assert not again.new_payments
    assert not again.changed_payments
    assert not again.changed_wallets


def test_f3_a_refused_charge_stays_refused_when_the_wallet_is_full() -> None:
    first = fold_of(0)
    first.apply(charge())
    later = fold_of(1_000, *first.new_payments)
    assert later.apply(charge()) == refused(PaymentRefusal.INSUFFICIENT_BALANCE)
    assert not later.entries


def test_refund_gives_back_what_was_taken_once() -> None:
    fold = fold_of(100)
    fold.apply(charge(amount=60))

    assert fold.apply(refund()) == refunded(Effect.UNDONE)
    assert fold.apply(refund()) == refunded(Effect.UNDONE)

    assert [entry for entry in fold.entries if entry.transaction_id == "refund:o1"] == [
        Entry("refund:o1", "wallet:u1", 60, "KRW"),
        Entry("refund:o1", REVENUE, -60, "KRW"),
    ]
    assert fold.changed_wallets == [Wallet("u1", "KRW", 100)]
    (payment,) = fold.new_payments
    assert (payment.state, payment.captured, payment.refunded) == (PaymentState.REFUNDED, 60, 60)


def test_a_charge_repeated_after_its_refund_gets_its_first_verdict_and_moves_nothing() -> None:
    fold = fold_of(100)
    fold.apply(charge())
    fold.apply(refund())
    entries = list(fold.entries)
    assert fold.apply(charge()) == charged()
    assert fold.entries == entries


def test_f14_refund_before_charge_leaves_a_tombstone_and_the_charge_is_refused() -> None:
    fold = fold_of(100)

    assert fold.apply(refund()) == refunded(Effect.NOTHING)
    assert fold.apply(charge()) == refused(PaymentRefusal.ALREADY_REFUNDED)
    assert fold.apply(refund()) == refunded(Effect.NOTHING)

    assert fold.new_payments == [Payment("o1", PaymentState.TOMBSTONE)]
    assert not fold.entries


def test_refund_of_a_refused_payment_finds_nothing_and_the_refusal_stays() -> None:
    fold = fold_of(0)
    fold.apply(charge())
    assert fold.apply(refund()) == refunded(Effect.NOTHING)
    assert fold.apply(charge()) == refused(PaymentRefusal.INSUFFICIENT_BALANCE)
    assert not fold.entries


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
    fold = fold_of(balance)
    fold.apply(charge())
    entries, payments = list(fold.entries), fold.new_payments

    answer = fold.apply(charge(**({"command_id": "o1:charge:other"} | changes)))

    assert isinstance(answer, Refused)
    assert answer.reason is CommandRefusal.COMMAND_ID_REUSED
    assert "o1" in answer.detail
    assert (fold.entries, fold.new_payments) == (entries, payments)


def test_the_fingerprint_of_released_rows_does_not_change() -> None:
    """Rows keep it for good. When the fields change, add a version, and leave this one be."""
    assert FINGERPRINT_VERSION == 1
    assert fingerprint(charge(), 1).hex() == "47b45164f9953e58f288cb98912cf07e"
    with pytest.raises(KeyError):
        fingerprint(charge(), 99)


def test_top_up_opens_a_wallet_and_takes_the_money_from_the_treasury() -> None:
    fold = fold_of(None)

    assert fold.fulfil(top_up(70)) == WalletToppedUp(
        command_id="t1", user_id="u1", amount=70, currency="KRW", balance=70
    )

    assert fold.new_wallets == [Wallet("u1", "KRW", 70)]
    assert fold.entries == [
        Entry("top-up:t1", "wallet:u1", 70, "KRW"),
        Entry("top-up:t1", TREASURY, -70, "KRW"),
    ]


def test_top_up_of_a_wallet_that_is_there_adds_to_it() -> None:
    fold = fold_of(5)
    answers = [fold.fulfil(top_up(70, "t1")), fold.fulfil(top_up(1, "t2"))]
    assert [getattr(answer, "balance", None) for answer in answers] == [75, 76]
    assert fold.changed_wallets == [Wallet("u1", "KRW", 76)]
    assert not fold.new_wallets


def test_top_up_stops_at_the_largest_total() -> None:
    fold = fold_of(MAX_TOTAL - 10)
    over = fold.fulfil(top_up(11, "t1"))
    assert isinstance(over, Refused)
    assert over.reason is CommandRefusal.LIMIT_EXCEEDED
    assert not fold.entries
    assert isinstance(fold.fulfil(top_up(10, "t2")), WalletToppedUp)


def test_a_refund_into_a_full_wallet_is_never_refused() -> None:
    """An undo has one reply, done: the limit holds for top-ups alone."""
    first = fold_of(MAX_MONEY)
    first.apply(charge(amount=MAX_MONEY))
    later = fold_of(MAX_TOTAL, *first.new_payments)
    assert later.apply(refund()) == refunded(Effect.UNDONE)
    assert later.changed_wallets == [Wallet("u1", "KRW", MAX_TOTAL + MAX_MONEY)]


def test_top_up_in_another_currency_is_refused() -> None:
    fold = fold_of(None)
    answer = fold.fulfil(top_up(1, currency="USD"))
    assert isinstance(answer, Refused)
    assert answer.reason is CommandRefusal.CURRENCY_MISMATCH
    assert not fold.new_wallets


def test_points_are_not_available() -> None:
    fold = fold_of(100)
    answer = fold.fulfil(GrantPoints(command_id="g1", user_id="u1", amount=1, currency="KRW"))
    assert isinstance(answer, Refused)
    assert answer.reason is CommandRefusal.POINTS_UNAVAILABLE
    assert not fold.entries
