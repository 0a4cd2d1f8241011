"""Payment's decisions: what a command does to wallets, payments and the ledger. Pure.

    ChargePayment ──▶ CAPTURED ──RefundPayment──▶ REFUNDED
         └──▶ REFUSED              RefundPayment of nothing ──▶ TOMBSTONE

Money moves between accounts only: the entries of each transaction sum to zero, each balance is
the sum of its entries, and none is negative. The first verdict on an order is final: a refused
charge stays refused when the wallet is topped up. `PaymentRefused` means that no money moved and
none will, so it is never said of an order that was charged with other content.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, assert_never

from shared.contracts.base import MAX_TOTAL, digest
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
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REVENUE: Final = "house:revenue"
TREASURY: Final = "house:treasury"
"""The house's accounts: captures go to the one, and top-ups come out of the other."""

FINGERPRINT_VERSION: Final = 1
FINGERPRINTED: Final = {1: attrgetter("user_id", "amount", "currency", "method", "points")}
"""What makes two charges of one order the same, by version. Old versions stay, for stored rows."""

SagaCommand: TypeAlias = ChargePayment | RefundPayment
SagaReply: TypeAlias = PaymentCharged | PaymentRefused | PaymentRefunded
WalletRequest: TypeAlias = TopUpWallet | GrantPoints

_Row = TypeVar("_Row")


class PaymentState(StrEnum):
    """What became of an order's payment."""

    CAPTURED = "CAPTURED"
    REFUNDED = "REFUNDED"
    REFUSED = "REFUSED"
    TOMBSTONE = "TOMBSTONE"
    """The refund came first: a charge that comes later is refused."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a user has, in minor units."""

    user_id: str
    currency: str
    balance: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a charge asked for, with the fingerprint that tells whether another asks the same."""

    user_id: str
    amount: int
    currency: str
    method: PaymentMethod
    points: int
    fingerprint_version: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Payment:
    """What was decided for an order, kept for good so that it can be said again."""

    order_id: str
    state: PaymentState
    charge: Charge | None = None
    """None for a tombstone alone."""
    refusal: PaymentRefusal | None = None

    def is_of(self, command: ChargePayment) -> bool:
        """Tell whether the verdict was on what `command` asks; a tombstone's is on any charge."""
        asked = self.charge
        return not asked or asked.fingerprint == fingerprint(command, asked.fingerprint_version)

    @property
    def captured(self) -> int:
        """How much was taken: all that was asked for, or nothing."""
        if self.charge is None or self.state is PaymentState.REFUSED:
            return 0
        return self.charge.amount

    @property
    def refunded(self) -> int:
        """How much of that was given back: all or nothing."""
        return self.captured if self.state is PaymentState.REFUNDED else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the ledger: an account got `amount`, or gave it where that is below zero."""

    transaction_id: str
    account: str
    amount: int
    currency: str


class Fold:
    """A chunk in memory: commands change it one by one, and it knows what is to be saved."""

    def __init__(
        self, payments: Iterable[Payment], wallets: Iterable[Wallet], currency: str
    ) -> None:
        """Start from the rows that the chunk touches; `currency` is the deployment's."""
        self._payments = {payment.order_id: payment for payment in payments}
        self._wallets = {wallet.user_id: wallet for wallet in wallets}
        self._loaded_payments = dict(self._payments)
        self._loaded_wallets = dict(self._wallets)
        self._currency = currency
        self.entries: list[Entry] = []

    def apply(self, command: SagaCommand) -> SagaReply | Refused:
        """Decide a command of the saga. One that was decided before gets the same reply again."""
        match command:
            case ChargePayment():
                return self._charge(command)
            case RefundPayment():
                return self._refund(command)
            case _:
                assert_never(command)

    def fulfil(self, request: WalletRequest) -> WalletToppedUp | Refused:
        """Decide a request of the treasury."""
        match request:
            case TopUpWallet():
                return self._top_up(request)
            case GrantPoints():
                return Refused(
                    CommandRefusal.POINTS_UNAVAILABLE,
                    "points aren't available in this version; top up the wallet instead",
                )
            case _:
                assert_never(request)

    @property
    def new_payments(self) -> list[Payment]:
        """Orders decided for the first time, in key order."""
        return _new(self._payments, self._loaded_payments)

    @property
    def changed_payments(self) -> list[Payment]:
        """Orders that were loaded and changed, in key order."""
        return _changed(self._payments, self._loaded_payments)

    @property
    def new_wallets(self) -> list[Wallet]:
        """Wallets of users who had none, in key order."""
        return _new(self._wallets, self._loaded_wallets)

    @property
    def changed_wallets(self) -> list[Wallet]:
        """Wallets that were loaded and changed, in key order."""
        return _changed(self._wallets, self._loaded_wallets)

    def _charge(self, command: ChargePayment) -> PaymentCharged | PaymentRefused | Refused:
        payment = self._payments.get(command.order_id)
        if payment is None:
            payment = self._decide(command)
            self._payments[command.order_id] = payment
            if payment.state is PaymentState.CAPTURED:
                self._move(f"payment:{command.order_id}", command.user_id, REVENUE, -command.amount)
        elif not payment.is_of(command):
            return Refused(
                CommandRefusal.COMMAND_ID_REUSED,
                f"order {command.order_id} was charged before with other content; the first charge"
                " counts, and an order is charged once",
            )
        return _verdict(command, payment)

    def _decide(self, command: ChargePayment) -> Payment:
        """All of the amount from the wallet, or nothing."""
        asked = command.user_id, command.amount, command.currency, command.method, command.points
        charge = Charge(*asked, FINGERPRINT_VERSION, fingerprint(command, FINGERPRINT_VERSION))
        refusal = self._refusal(command)
        state = PaymentState.REFUSED if refusal else PaymentState.CAPTURED
        return Payment(command.order_id, state, charge, refusal)

    def _refusal(self, command: ChargePayment) -> PaymentRefusal | None:
        if command.method is not PaymentMethod.WALLET or command.points:
            return PaymentRefusal.METHOD_UNAVAILABLE
        wallet = self._wallet(command.user_id)
        if not command.currency == self._currency == wallet.currency:
            return PaymentRefusal.CURRENCY_MISMATCH
        if wallet.balance < command.amount:
            return PaymentRefusal.INSUFFICIENT_BALANCE
        return None

    def _refund(self, command: RefundPayment) -> PaymentRefunded:
        payment = self._payments.get(command.order_id)
        effect = Effect.NOTHING
        if payment is None:
            self._payments[command.order_id] = Payment(command.order_id, PaymentState.TOMBSTONE)
        elif payment.state is PaymentState.CAPTURED and (charge := payment.charge) is not None:
            effect = Effect.UNDONE
            self._payments[command.order_id] = replace(payment, state=PaymentState.REFUNDED)
            self._move(f"refund:{command.order_id}", charge.user_id, REVENUE, charge.amount)
        elif payment.state is PaymentState.REFUNDED:
            effect = Effect.UNDONE  # the same reply again
        return PaymentRefunded(
            command_id=command.command_id, order_id=command.order_id, effect=effect
        )

    def _top_up(self, request: TopUpWallet) -> WalletToppedUp | Refused:
        wallet = self._wallet(request.user_id)
        if not request.currency == self._currency == wallet.currency:
            return Refused(
                CommandRefusal.CURRENCY_MISMATCH,
                f"asked in {request.currency}; money is in {self._currency} here, and the wallet of"
                f" {request.user_id} in {wallet.currency}",
            )
        if wallet.balance + request.amount > MAX_TOTAL:
            return Refused(
                CommandRefusal.LIMIT_EXCEEDED,
                f"{request.user_id} would have more than {MAX_TOTAL} in the wallet",
            )
        self._move(f"top-up:{request.command_id}", request.user_id, TREASURY, request.amount)
        return WalletToppedUp(
            command_id=request.command_id,
            user_id=request.user_id,
            amount=request.amount,
            currency=request.currency,
            balance=wallet.balance + request.amount,
        )

    def _wallet(self, user_id: str) -> Wallet:
        """A user without a wallet has nothing."""
        return self._wallets.get(user_id) or Wallet(user_id, self._currency, 0)

    def _move(self, transaction_id: str, user_id: str, house: str, amount: int) -> None:
        """Move `amount` from the house to the user's wallet, or back where it is below zero: the
        one place where a balance changes, with both of its entries."""
        wallet = self._wallet(user_id)
        self._wallets[user_id] = Wallet(user_id, wallet.currency, wallet.balance + amount)
        for account, change in ((f"wallet:{user_id}", amount), (house, -amount)):
            self.entries.append(Entry(transaction_id, account, change, wallet.currency))


def fingerprint(command: ChargePayment, version: int) -> bytes:
    """16 bytes, equal where two charges ask for the same by that version's fields; raises
    `KeyError` for a version that this code doesn't know."""
    return digest("|".join(map(str, FINGERPRINTED[version](command))).encode())


def _new(rows: Mapping[str, _Row], loaded: Mapping[str, _Row]) -> list[_Row]:
    return [row for key, row in sorted(rows.items()) if key not in loaded]


def _changed(rows: Mapping[str, _Row], loaded: Mapping[str, _Row]) -> list[_Row]:
    return [row for key, row in sorted(rows.items()) if row is not loaded.get(key, row)]


def _verdict(command: ChargePayment, payment: Payment) -> PaymentCharged | PaymentRefused:
    if payment.captured and payment.charge is not None:
        return PaymentCharged(
            command_id=command.command_id,
            order_id=command.order_id,
            currency=payment.charge.currency,
            parts=(PaymentPart(source=PaymentSource.WALLET, amount=payment.captured),),
        )
    return PaymentRefused(
        command_id=command.command_id,
        order_id=command.order_id,
        reason=payment.refusal or PaymentRefusal.ALREADY_REFUNDED,
    )
