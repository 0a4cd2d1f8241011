"""A world in memory: the tables, several couriers with leases, the network, a provider and a clock.
What must always hold is checked after each commit and before each request; what must hold at rest,
once all faults have ended and enough time has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from payment.books import Books
from payment.calls import (
    Call,
    Declined,
    Finding,
    Lease,
    NotTaken,
    Pace,
    Refunded,
    Silent,
    key_of,
    must_ask,
)
from payment.domain import decide
from payment.handlers import _is_by_gateway, _known_to_gateway, _touched
from payment.news import settle
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    CallKind,
    CallState,
    ChargePayment,
    PaymentCharged,
    PaymentRefunded,
    PaymentState,
    RefundPayment,
)

if TYPE_CHECKING:
    from payment.calls import Answer

LEASE = timedelta(seconds=10)
TIMEOUT = timedelta(seconds=3)
RETENTION = timedelta(seconds=300)
PACE = Pace(first_pause=timedelta(seconds=0.5), interval=timedelta(seconds=15),
            key_retention=RETENTION)  # fmt: skip
AMOUNT = 60


class Errand(NamedTuple):
    """A call that a courier has, and hasn't made."""

    call: Call
    is_wanted: bool


@dataclass
class Request:
    """On its way to the provider; its courier may have given up waiting, or be dead."""

    call: Call
    asks: bool
    until: datetime
    courier: Courier | None


@dataclass
class Courier:
    """One instance: what it has in memory is lost when it dies."""

    owner: str
    errands: list[Errand] = field(default_factory=list)
    inflow: list[tuple[Finding, str | None]] = field(default_factory=list)


class World:
    """Commands, couriers and news on one set of tables; `seen` counts what came to pass."""

    def __init__(self, provider, tables, plans, *, is_mute=False):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.provider = provider(RETENTION, plans, is_mute=is_mute)
        self.couriers = [Courier(f"payment-{number}") for number in range(3)]
        self.net: list[Request] = []
        self.tables = tables()
        self.payments, self.calls = self.tables.payments, self.tables.calls
        self.said, self.seen = self.tables.said, self.tables.seen
        self.heard: set[str] = set()
        self.asked: dict[str, ChargePayment | RefundPayment] = {}
        self.is_late = False
        """Whether the provider ever put into its book what it had taken some time before."""
        self.lied: set[str] = set()
        self.tables.grant(100)

    # --- commands ---

    def charge(self, order_id, points=0):
        return ChargePayment(
            command_id=f"{order_id}:charge:do", order_id=order_id, user_id="u1", amount=AMOUNT,
            currency="KRW", method=PaymentMethod.GATEWAY, points=points,
        )  # fmt: skip

    def refund(self, order_id):
        return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)

    def command(self, courier, *commands, free=1, dies=False):
        """A chunk on an instance, which may die between the commit and what follows it."""
        commands = [self.asked.setdefault(one.command_id, one) for one in commands]
        orders = {one.order_id for one in commands}
        payments = [row for key, row in self.payments.items() if key in orders]
        known = _known_to_gateway(payments)
        asked = known or any(map(_is_by_gateway, commands))
        books = Books(
            "KRW",
            Lease(courier.owner, self.now, self.now + LEASE, free) if asked else None,
            payments=payments,
            calls=[row for row in self.calls.values() if row.order_id in known],
            wallets=[self.tables.wallet] if _touched(commands, payments) else (),
        )
        replies = []
        for command in commands:
            before = books.payment(command.order_id)
            replies.append(decide(books, command, ""))
            self._check_step(before, books.payment(command.order_id))
        self._save(books)
        for reply in replies:
            if reply is not None:
                self._say(reply)
        courier.errands += [Errand(call, is_wanted=True) for call in books.handed_over]
        if dies:
            self.die(courier)

    def _save(self, books):
        self.tables.save(books)
        for order_id in self.payments:
            assert len(self.provider.captures(order_id)) <= 1

    def _say(self, reply):
        self.tables.say(reply)
        if reply.order_id in self.lied:
            return
        taken = self.provider.captures(reply.order_id)
        match reply:
            case PaymentCharged():
                assert len(taken) == 1
            case PaymentRefunded(effect=Effect.UNDONE):
                assert [one.refunded for one in taken] == [one.amount for one in taken] != []
            case _:
                assert self.is_late or not taken

    def _check_step(self, before, after):
        """One decision at a time. Where the provider books at once what it takes, "nothing" is
        never said too early."""
        self.tables.check_step(before, after)
        assert self.is_late or not after.is_late or after.order_id in self.lied

    # --- couriers ---

    def claim(self, courier, most=10):
        """As `claim_calls` does."""
        due = [row for row in self.calls.values() if row.next_at and row.next_at <= self.now]
        for row in sorted(due, key=lambda row: row.next_at)[:most]:
            call = replace(
                row, owner=courier.owner, attempt=row.attempt + 1, next_at=self.now + LEASE
            )
            if row.owner is not None and row.state is not CallState.WATCHED:
                self.seen["lease ran out"] += 1
                call = replace(
                    call,
                    state=CallState.UNKNOWN,
                    sends=row.sends + 1,
                    first_sent_at=row.first_sent_at or row.next_at - LEASE,
                    expires_at=row.next_at,
                )
            self.calls[call.key] = call
            state = self.payments[call.order_id].state
            is_wanted = call.kind is CallKind.REFUND or state is PaymentState.PENDING
            courier.errands.append(Errand(call, is_wanted))

    def go(self, courier, place):
        """Begin a request, unless its time is over."""
        errand = courier.errands.pop(place)
        call, until = errand.call, errand.call.next_at
        if self.now + TIMEOUT > until:
            self.seen["errand dropped"] += 1
            return
        asks = must_ask(call, is_wanted=errand.is_wanted, until=until, pace=PACE)
        if not asks:
            self._check_sending(call)
        self.seen[f"{'ask' if asks else 'send'} {call.kind}"] += 1
        self.seen["sent again"] += not asks and bool(call.sends)
        self.net.append(Request(call, asks, until, courier))

    def _check_sending(self, call):
        """Nobody sends what is decided otherwise, nor without the lease. What the provider has on
        record is only told again, so that a callback may overtake a request."""
        payment, row = self.payments[call.order_id], self.calls[call.key]
        assert self.now < call.next_at
        assert row.attempt == call.attempt
        if call.kind is CallKind.CHARGE and payment.state in (
            PaymentState.TOMBSTONE,
            PaymentState.REFUSED,
        ):
            assert isinstance(self.provider.find(call.key, self.now), Declined)

    def die(self, courier):
        """All that it has in memory is gone; its requests go on."""
        self.seen["died with errands"] += bool(courier.errands)
        courier.errands, courier.inflow = [], []
        for request in self.net:
            if request.courier is courier:
                request.courier = None

    # --- the network ---

    def carry(self, place, how="answered", after_s=1.0):
        """A request arrives, or doesn't, and its courier gets an answer, or none."""
        request = self.net[place]
        if how != "time-out":
            self.net.pop(place)
        answer: Answer = Silent("lost")
        match how:
            case "answered" | "answer lost" | "taken":
                later = how == "taken" and not request.asks
                self.is_late |= later
                told = self._arrive(request, later=later)
                answer = Silent("lost") if how == "answer lost" else told
            case "unreachable":
                answer = NotTaken("no connection")
            case "busy":
                answer = NotTaken("429", after_s, is_failure=False)
        if request.courier is not None:
            self.seen[f"{how}: {type(answer).__name__}"] += 1
            sent_until = None if request.asks else request.until
            finding = Finding(
                request.call.key, answer, request.call.attempt, sent_until, request.until - LEASE
            )
            request.courier.inflow.append((finding, None))
            request.courier = None

    def _arrive(self, request, *, later):
        if request.asks:
            return self.provider.find(request.call.key, self.now)
        return self.provider.take(request.call, request.until, self.now, later=later)

    def call_back(self, place, courier, *, keep=False):
        """The provider tells of its own accord, and perhaps again later."""
        callbacks = self.provider.callbacks
        event_id, finding = callbacks[place] if keep else callbacks.pop(place)
        courier.inflow.append((finding, event_id))

    def lie(self, courier, order_id, answer):
        """What can't be: the provider says it all the same. A person will have to look."""
        kind = CallKind.REFUND if isinstance(answer, Refunded) else CallKind.CHARGE
        self.lied.add(order_id)
        self.seen["lie"] += 1
        event_id = f"lie-{self.seen['lie']}"
        courier.inflow.append((Finding(key_of(kind, order_id), answer), event_id))

    # --- news ---

    def settle(self, courier, most=500, *, free=1, fails=False, dies=False):
        """A batch of what has arrived, in one transaction."""
        batch, courier.inflow = courier.inflow[:most], courier.inflow[most:]
        if fails or not batch:
            return
        events = {event_id for _, event_id in batch if event_id is not None}
        self.seen["callback again"] += len(events & self.heard)
        findings = [finding for finding, event_id in batch if event_id not in self.heard]
        orders = {finding.key.partition(":")[2] for finding in findings}
        books = Books(
            "KRW",
            Lease(courier.owner, self.now, self.now + LEASE, free),
            payments=[row for key, row in self.payments.items() if key in orders],
            calls=[row for row in self.calls.values() if row.order_id in orders],
            wallets=[self.tables.wallet],
        )
        settled = []
        for finding in findings:
            order_id = finding.key.partition(":")[2]
            before, payment = books.call(finding.key), books.payment(order_id)
            settled.append(settle(books, finding, self.now, PACE))
            self.seen["stale news"] += books.call(finding.key) is before
            if payment is not None:
                self._check_step(payment, books.payment(order_id))
        self._save(books)
        self.heard |= events
        self.seen["late capture"] += books.late_captures
        for told in settled:
            if told is not None:
                self._say(told.reply)
        courier.errands += [Errand(call, is_wanted=True) for call in books.handed_over]
        if dies:
            self.die(courier)


@pytest.fixture(scope="session")
def world(provider, tables):
    return partial(World, provider, tables)
