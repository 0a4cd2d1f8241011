"""Random histories: money is conserved, whatever comes, in whatever order, however often."""

from __future__ import annotations

from collections import Counter
from itertools import count, pairwise
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from payment.books import Books
from payment.domain import decide
from payment.handlers import _touched
from payment.records import Payment, Wallet
from payment.wallets import fulfil
from shared.contracts.base import MAX_MONEY, MAX_TOTAL
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    ChargePayment,
    GrantPoints,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentState,
    PointsGranted,
    RefundPayment,
    TopUpWallet,
    WalletToppedUp,
)
from shared.contracts.refusals import CommandRefusal, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from payment.ledger import Entry

Command: TypeAlias = ChargePayment | RefundPayment | TopUpWallet | GrantPoints
Answer: TypeAlias = (
    PaymentCharged | PaymentRefused | PaymentRefunded | WalletToppedUp | PointsGranted | Refused
)

_Request = TypeVar("_Request", TopUpWallet, GrantPoints)

CURRENCY = "KRW"
ENDS = {PaymentState.REFUNDED, PaymentState.REFUSED, PaymentState.TOMBSTONE}
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
        points=min(points, amount),
    )


def _refund(order: str) -> RefundPayment:
    return RefundPayment(command_id=f"{order}:charge:undo", order_id=order)


def _ask(kind: type[_Request], user_id: str, amount: int, currency: str) -> _Request:
    """Each has an id of its own: the inbox keeps duplicates of requests away from the decision."""
    return kind(command_id=f"r{next(_numbers)}", user_id=user_id, amount=amount, currency=currency)


orders = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
users = st.sampled_from(["u1", "u2", "u3"])
currencies = st.sampled_from([CURRENCY] * 9 + ["USD"])
charges = st.builds(
    _charge,
    orders,
    users,
    st.integers(1, 50) | st.just(MAX_MONEY),
    currencies,
    st.sampled_from([PaymentMethod.WALLET] * 5 + [PaymentMethod.GATEWAY]),
    st.just(0) | st.integers(1, 60),
)
refunds = st.builds(_refund, orders)
requests = st.builds(
    _ask,
    st.sampled_from([TopUpWallet, GrantPoints]),
    users,
    st.integers(1, 80) | st.just(MAX_MONEY),
    currencies,
)
saga_chunks = st.lists(charges | refunds, min_size=1, max_size=8)
request_chunks = st.lists(requests, min_size=1, max_size=4)
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

    def run(self, chunk: Sequence[Command]) -> list[Answer | None]:
        """One chunk of one group: commands of the saga, or requests."""
        requests = [each for each in chunk if isinstance(each, TopUpWallet | GrantPoints)]
        commands = [each for each in chunk if isinstance(each, ChargePayment | RefundPayment)]
        ids = {command.order_id for command in commands}
        payments = [row for key, row in self.payments.items() if key in ids]
        touched = {*_touched(commands, payments), *(request.user_id for request in requests)}
        wallets = [row for key, row in self.wallets.items() if key in touched]
        books = Books(CURRENCY, has_gateway=False, payments=payments, wallets=wallets)
        replies: list[Answer | None] = [decide(books, command, "") for command in commands]
        replies += [fulfil(books.ledger, request, CURRENCY) for request in requests]
        self._save(books)
        return replies

    def _save(self, books: Books) -> None:
        assert not books.new_calls
        assert not self.payments.keys() & {row.order_id for row in books.new_payments}
        assert not self.wallets.keys() & {row.user_id for row in books.ledger.new_wallets}
        assert not ENDS & {self.payments[row.order_id].state for row in books.changed_payments}
        for payment in [*books.new_payments, *books.changed_payments]:
            self.payments[payment.order_id] = payment
        for wallet in [*books.ledger.new_wallets, *books.ledger.changed_wallets]:
            self.wallets[wallet.user_id] = wallet
        self.entries += books.ledger.entries

    def check(self) -> None:
        """Invariants 4 and 5, and what the tables' constraints say."""
        keys = [(entry.transaction_id, entry.account) for entry in self.entries]
        assert len(keys) == len(set(keys))
        transactions, accounts = Counter[tuple[str, str]](), Counter[str]()
        for entry in self.entries:
            assert entry.amount
            transactions[entry.transaction_id, entry.currency] += entry.amount
            accounts[entry.account] += entry.amount
        assert not any(transactions.values())
        for wallet in self.wallets.values():
            assert wallet.balance == accounts[f"wallet:{wallet.user_id}"] >= 0
            assert wallet.points == accounts[f"points:{wallet.user_id}"] >= 0
        revenue = sum(row.captured - row.refunded for row in self.payments.values())
        assert revenue == accounts["house:revenue"]
        assert sum(accounts.values()) == 0
        self._check_refunds()

    def _check_refunds(self) -> None:
        """Each refund is its capture the other way, account by account."""
        taken, returned = set(), set()
        for entry in self.entries:
            name, _, order_id = entry.transaction_id.partition(":")
            if name == "payment":
                taken.add((order_id, entry.account, -entry.amount))
            elif name == "refund":
                returned.add((order_id, entry.account, entry.amount))
        orders = {order_id for order_id, _, _ in returned}
        assert returned == {part for part in taken if part[0] in orders}


class Oracle:
    """What each reply must be, by a book that knows no ledger and no chunks."""

    def __init__(self) -> None:
        self.balances: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.first: dict[str, tuple[ChargePayment | None, PaymentRefusal | None]] = {}
        """Order -> its first charge and why that was refused; no charge where a refund was
        first."""
        self.refunded: set[str] = set()

    def expect(self, command: Command) -> object:
        match command:
            case TopUpWallet() | GrantPoints():
                return self._add(command)
            case ChargePayment():
                return self._charge(command)
            case _:
                return self._refund(command)

    def _add(self, request: TopUpWallet | GrantPoints) -> object:
        book = self.balances if isinstance(request, TopUpWallet) else self.points
        if request.currency != CURRENCY:
            return CommandRefusal.CURRENCY_MISMATCH
        if book[request.user_id] + request.amount > MAX_TOTAL:
            return CommandRefusal.LIMIT_EXCEEDED
        book[request.user_id] += request.amount
        return book[request.user_id]

    def _charge(self, command: ChargePayment) -> object:
        user, rest = command.user_id, command.amount - command.points
        if command.order_id not in self.first:
            refusal = None
            if rest and command.method is PaymentMethod.GATEWAY:
                refusal = PaymentRefusal.METHOD_UNAVAILABLE
            elif command.currency != CURRENCY:
                refusal = PaymentRefusal.CURRENCY_MISMATCH
            elif self.balances[user] < rest or self.points[user] < command.points:
                refusal = PaymentRefusal.INSUFFICIENT_BALANCE
            else:
                self._move(command, -1)
            self.first[command.order_id] = command, refusal
        first, refusal = self.first[command.order_id]
        if first is None:
            return PaymentRefusal.ALREADY_REFUNDED
        if first != command:
            return CommandRefusal.COMMAND_ID_REUSED
        parts = {"points": command.points, "wallet": rest}
        return refusal or [part for part in parts.items() if part[1]]

    def _refund(self, command: RefundPayment) -> object:
        first, refusal = self.first.setdefault(command.order_id, (None, None))
        if first is None or refusal is not None:
            return Effect.NOTHING
        if command.order_id not in self.refunded:
            self.refunded.add(command.order_id)
            self._move(first, 1)
        return Effect.UNDONE

    def _move(self, charge: ChargePayment, sign: int) -> None:
        self.points[charge.user_id] += sign * charge.points
        self.balances[charge.user_id] += sign * (charge.amount - charge.points)


def _essence(reply: Answer | None) -> object:
    match reply:
        case PaymentCharged():
            return [(part.source, part.amount) for part in reply.parts]
        case PaymentRefused() | Refused():
            return reply.reason
        case PaymentRefunded():
            return reply.effect
        case _:
            return reply and reply.balance


@settings(deadline=None)
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
    for key, wallet in world.wallets.items():
        assert (wallet.balance, wallet.points) == (oracle.balances[key], oracle.points[key])
    for command in [command for chunk, _ in history for command in chunk]:
        if isinstance(command, TopUpWallet | GrantPoints):
            continue
        before = dict(world.payments), dict(world.wallets), list(world.entries)
        assert _essence(world.run([command])[0]) == oracle.expect(command)
        assert (world.payments, world.wallets, world.entries) == before


@settings(deadline=None)
@given(
    st.lists(requests, max_size=4),
    st.permutations(
        [_charge("o1", "u1", 30, CURRENCY, PaymentMethod.WALLET, 10), _refund("o1")] * 3
    ),
    st.sets(st.integers(1, 5)),
)
def test_f2_f14_a_charge_and_its_refund_in_any_order_leave_nothing_behind(
    money: list[Command], commands: list[Command], cuts: set[int]
) -> None:
    world = World()
    world.run(money)
    before = dict(world.wallets)
    said: dict[str, set[object]] = {}
    for start, end in pairwise([0, *sorted(cuts), len(commands)]):
        chunk = commands[start:end]
        for command, reply in zip(chunk, world.run(chunk), strict=True):
            said.setdefault(command.command_id, set()).add(str(_essence(reply)))
        world.check()
    assert world.wallets == before
    assert world.payments["o1"].captured == world.payments["o1"].refunded
    assert all(len(replies) == 1 for replies in said.values()), said


@settings(max_examples=20, deadline=None)
@given(st.permutations([*range(200)]), st.integers(1, 40))
def test_f31_of_200_debits_with_money_for_100_the_first_100_succeed(
    numbers: list[int], length: int
) -> None:
    world = World()
    world.run([_ask(TopUpWallet, "u1", 300, CURRENCY), _ask(GrantPoints, "u1", 200, CURRENCY)])
    debits = [_charge(f"o{n}", "u1", 5, CURRENCY, PaymentMethod.WALLET, 2) for n in numbers]
    replies: list[Answer | None] = []
    for start in range(0, len(debits), length):
        replies += world.run(debits[start : start + length])
        world.check()
    assert [isinstance(reply, PaymentCharged) for reply in replies] == [True] * 100 + [False] * 100
    assert world.wallets["u1"] == Wallet("u1", CURRENCY, 0)
