"""The double-entry ledger: money moves between accounts and never appears or vanishes. Pure.

The legs of each transaction sum to zero. Users have balances, and each is the sum of its entries;
accounts of the house have entries only, so that no row of theirs is ever waited for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from payment.records import Wallet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_Row = TypeVar("_Row")


class Purse(StrEnum):
    """The accounts that each user has."""

    WALLET = "wallet"
    POINTS = "points"


class House(StrEnum):
    """The house's accounts."""

    REVENUE = "house:revenue"
    """What orders paid."""
    TREASURY = "house:treasury"
    """Top-ups come out of it."""
    POINTS = "house:points"
    """Granted points come out of it."""
    HELD = "house:held"
    """Points of payments whose outcome at the gateway isn't known."""
    GATEWAY = "house:gateway"
    """What the gateway took from cards comes out of it: below zero, it is what the gateway owes."""


class Leg(NamedTuple):
    """One side of a transaction: `account` gets `amount`, or gives it where that is below zero."""

    account: House | Purse
    amount: int


class Entry(NamedTuple):
    """A leg as it is stored."""

    transaction_id: str
    account: str
    amount: int
    currency: str


class Ledger:
    """The wallets of a chunk in memory, and the entries that its transactions make."""

    def __init__(self, wallets: Iterable[Wallet], currency: str) -> None:
        """`currency` is the deployment's."""
        self._wallets = {wallet.user_id: wallet for wallet in wallets}
        self._loaded = dict(self._wallets)
        self._currency = currency
        self.entries: list[Entry] = []

    def wallet(self, user_id: str) -> Wallet:
        """A user without a wallet has nothing."""
        return self._wallets.get(user_id) or Wallet(user_id, self._currency, 0)

    def post(self, transaction_id: str, user_id: str, *legs: Leg) -> None:
        """The one place where a balance changes, with all of its entries. Purses are the user's.
        Legs of 0 are left out. Raises ValueError where the rest doesn't sum to zero."""
        wallet = self._wallets.get(user_id) or self.wallet(user_id)
        currency = wallet.currency
        total = money = points = 0
        for account, amount in legs:
            total += amount
            if amount == 0:
                continue
            if account is Purse.WALLET:
                money += amount
            elif account is Purse.POINTS:
                points += amount
            name = self._name_of(account, user_id)
            self.entries.append(Entry(transaction_id, name, amount, currency))
        if total != 0:
            raise ValueError(f"{transaction_id} does not sum to zero")
        if money or points:
            self._wallets[user_id] = Wallet(
                user_id, currency, wallet.balance + money, wallet.points + points
            )

    @staticmethod
    def _name_of(account: House | Purse, user_id: str) -> str:
        return account.value if isinstance(account, House) else f"{account.value}:{user_id}"

    @property
    def new_wallets(self) -> list[Wallet]:
        """Wallets of users who had none, in key order."""
        return new_rows(self._wallets, self._loaded)

    @property
    def changed_wallets(self) -> list[Wallet]:
        """Wallets that were loaded and changed, in key order."""
        return changed_rows(self._wallets, self._loaded)


def new_rows(rows: Mapping[str, _Row], loaded: Mapping[str, _Row]) -> list[_Row]:
    """Those that weren't loaded, in key order."""
    return [row for key, row in sorted(rows.items()) if key not in loaded]


def changed_rows(rows: Mapping[str, _Row], loaded: Mapping[str, _Row]) -> list[_Row]:
    """Those that were loaded and are others now, in key order."""
    return [row for key, row in sorted(rows.items()) if row is not loaded.get(key, row)]
