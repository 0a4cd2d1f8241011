"""Random histories: money is conserved, whatever comes, in whatever order, however often."""

from __future__ import annotations

from collections import Counter
from itertools import count, pairwise
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from payment.domain import Entry, Fold, Payment, Wallet
from payment.handlers import _touched
from shared.contracts.base import MAX_MONEY, MAX_TOTAL
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    ChargePayment,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    RefundPayment,
    TopUpWallet,
    WalletToppedUp,
)
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

Command: TypeAlias = ChargePayment | RefundPayment | TopUpWallet
Reply: TypeAlias = PaymentCharged | PaymentRefused | PaymentRefunded | WalletToppedUp | Refused

CURRENCY = "KRW"
_numbers = count(1)


def _charge(
    order_id: str, user_id: str, amount: int, currency: str, method: PaymentMethod, points: int
) -> ChargePayment:
    return ChargePayment(
        command_id=f"{order_id}:charge:do",
        order_id=order_id,
        user_id=user_id,
        amount=amount,
        currency=currency,
        method=method,
        points=points,
    )


def _refund(order_id: str) -> RefundPayment:
    return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)


def _top_up(user_id: str, amount: int, currency: str) -> TopUpWallet:
    """Each has an id of its own: the inbox keeps duplicates of requests away from the fold."""
    return TopUpWallet(
        command_id=f"t{next(_numbers)}", user_id=user_id, amount=amount, currency=currency
    )


orders = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
users = st.sampled_from(["u1", "u2", "u3"])
currencies = st.sampled_from([CURRENCY] * 9 + ["USD"])
charges = st.builds(
    _charge,
    orders,
    users,
    st.integers(1, 50) | st.just(MAX_MONEY),
    currencies,
    st.sampled_from([PaymentMethod.WALLET] * 9 + [PaymentMethod.GATEWAY]),
    st.sampled_from([0] * 9 + [1]),
)
refunds = st.builds(_refund, orders)
top_ups = st.builds(_top_up, users, st.integers(1, 80) | st.just(MAX_MONEY), currencies)
saga_chunks = st.lists(charges | refunds, min_size=1, max_size=8)
request_chunks = st.lists(top_ups, min_size=1, max_size=4)
# Each chunk beside how often it comes: a broker and a relay deliver at least once.
histories = st.lists(
    st.tuples(saga_chunks, st.integers(1, 2)) | st.tuples(request_chunks, st.just(1)), max_size=12
)


class World:
    """The tables in memory: chunks load what the handlers load, and save what they save."""

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.wallets: dict[str, Wallet] = {}
        self.entries: list[Entry] = []

    def run(self, chunk: Sequence[Command]) -> list[Reply]:
        """One chunk of one group: commands of the saga, or requests."""
        requests = [each for each in chunk if isinstance(each, TopUpWallet)]
        commands = [each for each in chunk if not isinstance(each, TopUpWallet)]
        ids = {command.order_id for command in commands}
        payments = [row for key, row in self.payments.items() if key in ids]
        touched = {*_touched(commands, payments), *(request.user_id for request in requests)}
        wallets = [row for key, row in self.wallets.items() if key in touched]
        fold = Fold(payments, wallets, CURRENCY)
        replies: list[Reply] = [fold.apply(command) for command in commands]
        replies += [fold.fulfil(request) for request in requests]
        self._save(fold)
        return replies

    def _save(self, fold: Fold) -> None:
        for payment in fold.new_payments:
            assert payment.order_id not in self.payments
        for wallet in fold.new_wallets:
            assert wallet.user_id not in self.wallets
        for payment in [*fold.new_payments, *fold.changed_payments]:
            self.payments[payment.order_id] = payment
        for wallet in [*fold.new_wallets, *fold.changed_wallets]:
            self.wallets[wallet.user_id] = wallet
        self.entries += fold.entries

    def check(self) -> None:
        """Invariants 4 and 5, and what the tables' constraints say."""
        keys = [(entry.transaction_id, entry.account) for entry in self.entries]
        assert len(keys) == len(set(keys))
        transactions: Counter[tuple[str, str]] = Counter()
        accounts: Counter[str] = Counter()
        for entry in self.entries:
            assert entry.amount
            transactions[entry.transaction_id, entry.currency] += entry.amount
            accounts[entry.account] += entry.amount
        assert not any(transactions.values())
        for wallet in self.wallets.values():
            assert wallet.balance == accounts[f"wallet:{wallet.user_id}"]
            assert wallet.balance >= 0
        revenue = sum(row.captured - row.refunded for row in self.payments.values())
        assert revenue == accounts["house:revenue"]
        assert sum(accounts.values()) == 0


class Oracle:
    """What each reply must be, by a book that knows no ledger and no chunks."""

    def __init__(self) -> None:
        self.balances: Counter[str] = Counter()
        self.first: dict[str, tuple[ChargePayment | None, PaymentRefusal | None]] = {}
        """Order -> its first charge and why that was refused; no charge where a refund was
        first."""
        self.refunded: set[str] = set()

    def expect(self, command: Command) -> object:
        match command:
            case TopUpWallet():
                return self._top_up(command)
            case ChargePayment():
                return self._charge(command)
            case _:
                return self._refund(command)

    def _top_up(self, request: TopUpWallet) -> object:
        if request.currency != CURRENCY:
            return CommandRefusal.CURRENCY_MISMATCH
        if self.balances[request.user_id] + request.amount > MAX_TOTAL:
            return CommandRefusal.LIMIT_EXCEEDED
        self.balances[request.user_id] += request.amount
        return self.balances[request.user_id]

    def _charge(self, command: ChargePayment) -> object:
        if command.order_id not in self.first:
            refusal = None
            if command.points or command.method is PaymentMethod.GATEWAY:
                refusal = PaymentRefusal.METHOD_UNAVAILABLE
            elif command.currency != CURRENCY:
                refusal = PaymentRefusal.CURRENCY_MISMATCH
            elif self.balances[command.user_id] < command.amount:
                refusal = PaymentRefusal.INSUFFICIENT_BALANCE
            else:
                self.balances[command.user_id] -= command.amount
            self.first[command.order_id] = command, refusal
        first, refusal = self.first[command.order_id]
        if first is None:
            return PaymentRefusal.ALREADY_REFUNDED
        if first != command:
            return CommandRefusal.COMMAND_ID_REUSED
        return refusal or command.amount

    def _refund(self, command: RefundPayment) -> object:
        first, refusal = self.first.setdefault(command.order_id, (None, None))
        if first is None or refusal is not None:
            return Effect.NOTHING
        if command.order_id not in self.refunded:
            self.refunded.add(command.order_id)
            self.balances[first.user_id] += first.amount
        return Effect.UNDONE


def _essence(reply: Reply) -> object:
    match reply:
        case PaymentCharged():
            return sum(part.amount for part in reply.parts)
        case PaymentRefused() | Refused():
            return reply.reason
        case PaymentRefunded():
            return reply.effect
        case _:
            return reply.balance


@given(histories)
def test_f1_f2_money_is_conserved_and_every_reply_is_right(
    history: list[tuple[list[Command], int]],
) -> None:
    world, oracle = World(), Oracle()
    for chunk, times in history:
        for _ in range(times):
            replies = world.run(chunk)
            assert list(map(_essence, replies)) == list(map(oracle.expect, chunk))
            world.check()
    assert {key: row.balance for key, row in world.wallets.items()} == {
        key: balance for key, balance in oracle.balances.items() if key in world.wallets
    }
    for command in [command for chunk, _ in history for command in chunk]:
        if isinstance(command, TopUpWallet):
            continue
        before = dict(world.payments), dict(world.wallets), list(world.entries)
        (reply,) = world.run([command])
        assert _essence(reply) == oracle.expect(command)
        assert (world.payments, world.wallets, world.entries) == before


@given(
    st.lists(top_ups, max_size=4),
    st.permutations(
        [_charge("o1", "u1", 30, CURRENCY, PaymentMethod.WALLET, 0), _refund("o1")] * 3
    ),
    st.sets(st.integers(1, 5)),
)
def test_f2_f14_a_charge_and_its_refund_in_any_order_leave_nothing_behind(
    money: list[TopUpWallet], commands: list[Command], cuts: set[int]
) -> None:
    world = World()
    world.run(money)
    before = dict(world.wallets)
    said: dict[str, set[object]] = {}
    for start, end in pairwise([0, *sorted(cuts), len(commands)]):
        chunk = commands[start:end]
        for command, reply in zip(chunk, world.run(chunk), strict=True):
            said.setdefault(command.command_id, set()).add(_essence(reply))
        world.check()
    assert world.wallets == before
    assert world.payments["o1"].captured == world.payments["o1"].refunded
    assert all(len(replies) == 1 for replies in said.values()), said
