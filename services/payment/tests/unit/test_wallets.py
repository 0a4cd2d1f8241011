"""What the treasury asks for, one example a rule."""

from __future__ import annotations

from typing import Any

from payment.books import Books
from payment.ledger import Entry, House
from payment.records import Wallet
from payment.wallets import fulfil
from shared.contracts.base import MAX_TOTAL
from shared.contracts.payment import GrantPoints, PointsGranted, TopUpWallet, WalletToppedUp
from shared.contracts.refusals import CommandRefusal, Refused


def top_up(amount: int, command_id: str = "t1", **changes: Any) -> TopUpWallet:
    fields: dict[str, Any] = {"user_id": "u1", "currency": "KRW"} | changes
    return TopUpWallet(command_id=command_id, amount=amount, **fields)


def grant(amount: int, command_id: str = "g1", **changes: Any) -> GrantPoints:
    fields: dict[str, Any] = {"user_id": "u1", "currency": "KRW"} | changes
    return GrantPoints(command_id=command_id, amount=amount, **fields)


def books_of(balance: int | None = 100, points: int = 0) -> Books:
    wallets = [] if balance is None else [Wallet("u1", "KRW", balance, points)]
    return Books("KRW", wallets=wallets)


def ask(books: Books, request: TopUpWallet | GrantPoints) -> object:
    return fulfil(books.ledger, request, books.currency)


def test_top_up_opens_a_wallet_and_takes_the_money_from_the_treasury() -> None:
    books = books_of(None)

    assert ask(books, top_up(70)) == WalletToppedUp(
        command_id="t1", user_id="u1", amount=70, currency="KRW", balance=70
    )

    assert books.ledger.new_wallets == [Wallet("u1", "KRW", 70)]
    assert books.ledger.entries == [
        Entry("top-up:t1", "wallet:u1", 70, "KRW"),
        Entry("top-up:t1", House.TREASURY, -70, "KRW"),
    ]


def test_top_up_of_a_wallet_that_is_there_adds_to_it() -> None:
    books = books_of(5)
    answers = [ask(books, top_up(70, "t1")), ask(books, top_up(1, "t2"))]
    assert [getattr(answer, "balance", None) for answer in answers] == [75, 76]
    assert books.ledger.changed_wallets == [Wallet("u1", "KRW", 76)]
    assert not books.ledger.new_wallets


def test_top_up_stops_at_the_largest_total() -> None:
    books = books_of(MAX_TOTAL - 10)
    over = ask(books, top_up(11, "t1"))
    assert isinstance(over, Refused)
    assert over.reason is CommandRefusal.LIMIT_EXCEEDED
    assert not books.ledger.entries
    assert isinstance(ask(books, top_up(10, "t2")), WalletToppedUp)


def test_top_up_in_another_currency_is_refused() -> None:
    books = books_of(None)
    answer = ask(books, top_up(1, currency="USD"))
    assert isinstance(answer, Refused)
    assert answer.reason is CommandRefusal.CURRENCY_MISMATCH
    assert not books.ledger.new_wallets


def test_points_are_granted_out_of_the_house() -> None:
    books = books_of(None)

    assert ask(books, grant(70)) == PointsGranted(
        command_id="g1", user_id="u1", amount=70, currency="KRW", balance=70
    )

    assert books.ledger.new_wallets == [Wallet("u1", "KRW", 0, 70)]
    assert books.ledger.entries == [
        Entry("points:g1", "points:u1", 70, "KRW"),
        Entry("points:g1", House.POINTS, -70, "KRW"),
    ]


def test_points_stop_at_the_largest_total_and_at_another_currency() -> None:
    books = books_of(MAX_TOTAL, points=MAX_TOTAL - 10)
    for request, reason in (
        (grant(11), CommandRefusal.LIMIT_EXCEEDED),
        (grant(1, currency="USD"), CommandRefusal.CURRENCY_MISMATCH),
    ):
        answer = ask(books, request)
        assert isinstance(answer, Refused)
        assert answer.reason is reason
    assert not books.ledger.entries
    assert isinstance(ask(books, grant(10)), PointsGranted)
