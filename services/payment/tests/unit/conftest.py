"""What unit tests of payment share: a gateway and the tables, in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest

from payment.books import Books
from payment.calls import (
    Absent,
    Captured,
    Contradiction,
    Declined,
    Finding,
    NotTaken,
    Refunded,
    Silent,
)
from payment.records import UNDECIDED, Wallet
from payment.wallets import fulfil
from shared.contracts.payment import CallKind, CallState, GrantPoints, PaymentState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime, timedelta

    from payment.calls import Answer, Call
    from payment.news import SagaReply
    from payment.records import Payment
    from shared.contracts.base import Message

PROCESSING = Silent("processing", is_failure=False)
State = PaymentState
LEGAL = {
    State.PENDING: {State.CANCELLING, State.CAPTURED, State.REFUSED, State.TOMBSTONE},
    State.CANCELLING: {State.REFUNDING, State.TOMBSTONE},
    State.CAPTURED: {State.REFUNDING},
    State.REFUNDING: {State.REFUNDED},
    State.TOMBSTONE: {State.REFUNDING},
    State.REFUSED: set(),
    State.REFUNDED: set(),
}
EXPIRED = NotTaken("expired before it was taken", is_failure=False)


@dataclass
class Entered:
    """A charge or a refund as it stands in the provider's book."""

    id: str
    order_id: str
    key: str
    known_until: datetime
    amount: int
    currency: str
    outcome: str
    """captured, declined; succeeded."""
    is_processing: bool
    refunded: int = 0

    def meaning(self) -> Answer:
        if self.is_processing:
            return PROCESSING
        match self.outcome:
            case "captured" if self.refunded:
                return Declined("returned")
            case "captured":
                return Captured(self.id, self.amount, self.currency)
            case "declined":
                return Declined("card_declined")
            case _:
                return Refunded(self.amount, self.currency)


class Callback(NamedTuple):
    """What the provider tells of its own accord."""

    event_id: str
    finding: Finding


class Plan(NamedTuple):
    """How the provider will treat an order."""

    outcome: str = "captured"
    """captured, declined, or wrong: captured with another amount."""
    is_slow: bool = False
    """It answers `processing` at first."""


class Provider:
    """A gateway by its contract: its book is never lost, and its keys are forgotten after a while.
    A request is taken before it expires; in the book it may stand later than that."""

    def __init__(self, retention: timedelta, plans: dict[str, Plan], *, is_mute: bool) -> None:
        self.plans = plans
        self.is_mute = is_mute
        """It never calls back."""
        self.charges: dict[str, Entered] = {}
        self.refunds: dict[str, Entered] = {}
        self.later: list[Call] = []
        """Taken, and not yet in the book: asked for them, the provider knows nothing."""
        self.callbacks: list[Callback] = []
        self._retention = retention
        self._keys: dict[str, Entered] = {}

    def find(self, key: str, now: datetime) -> Answer:
        """The inquiry."""
        entered = self._known(key, now)
        return Absent() if entered is None else entered.meaning()

    def take(self, call: Call, expires_at: datetime, now: datetime, *, later: bool) -> Answer:
        """The request to charge, or to give back."""
        if now >= expires_at:
            return EXPIRED
        if later:
            self.later.append(call)
            return Silent("504")
        return self._enter(call, now)

    def work(self, now: datetime) -> None:
        """All that was taken comes into the book, and all in process gets its outcome."""
        for call in self.later:
            self._enter(call, now)
        self.later = []
        for entered in [*self.charges.values(), *self.refunds.values()]:
            if entered.is_processing:
                entered.is_processing = False
                self._tell(entered)

    def balance(self, order_id: str) -> int:
        """Captured less given back, over everything that was ever done for the order."""
        return sum(charge.amount - charge.refunded for charge in self.captures(order_id))

    def captures(self, order_id: str) -> list[Entered]:
        """What was taken for an order, given back or not."""
        return [
            one
            for one in self.charges.values()
            if one.order_id == order_id and one.outcome == "captured" and not one.is_processing
        ]

    def _enter(self, call: Call, now: datetime) -> Answer:
        entered = self._known(call.key, now)
        if entered is None:
            made = self._charge(call, now) if call.kind is CallKind.CHARGE else self._refund(call)
            if not isinstance(made, Entered):
                return made
            entered = self._keys[call.key] = made
            entered.known_until = now + self._retention
            if not entered.is_processing:
                self._tell(entered)
        return entered.meaning()

    def _charge(self, call: Call, now: datetime) -> Entered:
        plan = self.plans[call.order_id]
        amount = call.amount + 1 if plan.outcome == "wrong" else call.amount
        outcome = "declined" if plan.outcome == "declined" else "captured"
        id_ = f"ch_{len(self.charges)}"
        made = Entered(
            id_, call.order_id, call.key, now, amount, call.currency, outcome, plan.is_slow
        )
        self.charges[id_] = made
        return made

    def _refund(self, call: Call) -> Entered | Contradiction:
        charge = self.charges.get(call.reference or "")
        if charge is None:
            return Contradiction("404 charge_not_found")
        if charge.refunded + call.amount > charge.amount:
            return Contradiction("422 refund_exceeds_charge")
        charge.refunded += call.amount
        id_ = f"re_{len(self.refunds)}"
        slow = self.plans[call.order_id].is_slow
        until = charge.known_until
        made = Entered(
            id_, call.order_id, call.key, until, call.amount, call.currency, "succeeded", slow
        )
        self.refunds[id_] = made
        return made

    def _known(self, key: str, now: datetime) -> Entered | None:
        entered = self._keys.get(key)
        return entered if entered is not None and now < entered.known_until else None

    def _tell(self, entered: Entered) -> None:
        if not self.is_mute:
            finding = Finding(entered.key, entered.meaning())
            self.callbacks.append(Callback(f"evt_{entered.id}", finding))


class Tables:
    """Payment's tables: what a chunk has changed is saved, and what must always hold is checked.
    `seen` counts what came to pass."""

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.calls: dict[str, Call] = {}
        self.wallet = Wallet("u1", "KRW", 0)
        self.entries: dict[tuple[str, str], int] = {}
        self.said: dict[str, Message] = {}
        self.seen: Counter[str] = Counter()

    def grant(self, points: int) -> None:
        """To the one user."""
        books = Books("KRW", wallets=[self.wallet])
        request = GrantPoints(command_id="g", user_id="u1", amount=points, currency="KRW")
        fulfil(books.ledger, request, "KRW")
        self.save(books)

    def say(self, reply: SagaReply) -> None:
        """A command has one reply, however often it is said."""
        assert self.said.setdefault(reply.command_id, reply) == reply
        self.seen[type(reply).__name__] += 1

    def save(self, books: Books) -> None:
        for payment in [*books.new_payments, *books.changed_payments]:
            self.payments[payment.order_id] = payment
        for call in [*books.new_calls, *books.changed_calls]:
            self._check_call(self.calls.get(call.key), call)
            self.calls[call.key] = call
        for wallet in [*books.ledger.new_wallets, *books.ledger.changed_wallets]:
            self.wallet = wallet
        for entry in books.ledger.entries:
            place = entry.transaction_id, entry.account
            assert place not in self.entries
            assert entry.amount
            self.entries[place] = entry.amount
        self._check_money()

    def check_step(self, before: Payment | None, after: Payment) -> None:
        """States go forward."""
        if before is not None and before.state is not after.state:
            assert after.state in LEGAL[before.state]
            self.seen[f"{before.state}>{after.state}"] += 1
        assert before is None or not before.is_late or after.is_late

    def _check_call(self, before: Call | None, after: Call) -> None:
        """The constraints of `gateway_call`."""
        assert (after.state is CallState.QUARANTINED) == (after.quarantine is not None)
        assert after.owner is None or after.next_at is not None
        assert after.state not in (CallState.INTENDED, CallState.UNKNOWN) or after.next_at
        if before is None:
            self.seen["void at once"] += after.state is CallState.VOID
        elif before.state is not after.state:
            self.seen[f"{after.kind} {after.state}"] += 1
            assert before.state is not CallState.SUCCEEDED

    def _check_money(self) -> None:
        transactions: Counter[str] = Counter()
        accounts: Counter[str] = Counter()
        for (transaction_id, account), amount in self.entries.items():
            transactions[transaction_id] += amount
            accounts[account] += amount
        assert not any(transactions.values())
        assert self.wallet.points == accounts["points:u1"] >= 0
        payments = self.payments.values()
        held = sum(row.charge.points for row in payments if row.state in UNDECIDED and row.charge)
        assert accounts["house:held"] == held
        assert accounts["house:revenue"] == sum(row.captured - row.refunded for row in payments)


@pytest.fixture(scope="session")
def provider() -> type[Provider]:
    return Provider


@pytest.fixture(scope="session")
def plan() -> type[Plan]:
    return Plan


@pytest.fixture(scope="session")
def tables() -> type[Tables]:
    return Tables


@pytest.fixture(scope="session")
def legal() -> Mapping[PaymentState, Collection[PaymentState]]:
    """Where a payment may go from each state."""
    return LEGAL
