"""One order by the gateway, step by step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from payment.books import Books
from payment.calls import Absent, Finding, Lease, Pace, Silent
from payment.closing import close
from payment.domain import decide
from payment.news import settle
from payment.records import Wallet
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    ChargePayment,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefused,
    RefundPayment,
)

if TYPE_CHECKING:
    from payment.calls import Answer, Call
    from shared.contracts.payment import PaymentState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)
PACE = Pace()
CHARGE = ChargePayment(command_id="o1:charge:do", order_id="o1", user_id="u1", amount=60,
                       currency="KRW", method=PaymentMethod.GATEWAY, points=9)  # fmt: skip
REFUND = RefundPayment(command_id="o1:charge:undo", order_id="o1")


def _essence(reply: object) -> str | None:
    """`points 9, gateway 51`, a reason of refusal, an effect, or None."""
    match reply:
        case PaymentCharged(command_id=CHARGE.command_id):
            return ", ".join(f"{part.source} {part.amount}" for part in reply.parts)
        case PaymentRefused(command_id=CHARGE.command_id):
            return reply.reason
        case PaymentRefunded(command_id=REFUND.command_id):
            return reply.effect
        case _:
            assert reply is None
            return None


class Order:
    """One order on tables in memory, its one courier, and a clock."""

    def __init__(self, tables: Any) -> None:
        self.tables = tables
        self.tables.wallet = Wallet("u1", "KRW", 0, 20)
        self.tables.entries = {("points:g", "points:u1"): 20, ("points:g", "house:points"): -20}
        self.now = NOW

    def books(self, free: int = 1) -> Books:
        lease = Lease("payment-0", self.now, self.now + LEASE, free)
        return Books(
            "KRW", lease, payments=self.tables.payments.values(),
            calls=self.tables.calls.values(), wallets=[self.tables.wallet],
        )  # fmt: skip

    def do(self, *commands: ChargePayment | RefundPayment, free: int = 1) -> str | None:
        """The last reply, once the chunk is committed; and who was given what."""
        books = self.books(free)
        reply = [decide(books, command, "") for command in commands][-1]
        self.tables.save(books)
        self.handed = [call.key for call in books.handed_over]
        return _essence(reply)

    def charge(self, free: int = 1) -> str | None:
        return self.do(CHARGE, free=free)

    def refund(self) -> str | None:
        return self.do(REFUND)

    def both(self) -> str | None:
        return self.do(CHARGE, REFUND)

    def hear(self, answer: Answer, kind: str = "payment", **asked: Any) -> str | None:
        """The reply that a callback makes possible, or the answer under a lease."""
        books = self.books()
        told = settle(books, Finding(f"{kind}:o1", answer, **asked), self.now, PACE)
        self.tables.save(books)
        self.handed = [call.key for call in books.handed_over]
        return _essence(told and told.reply)

    def close(self) -> tuple[list[str], list[str | None]]:
        """Which calls an operator's word closes, and what is said then."""
        books = self.books()
        closed = close(books, "o1", self.now, PACE)
        self.tables.save(books)
        return list(closed.keys), [_essence(told.reply) for told in closed.settled]

    def answered(self, answer: Answer, *, sent: bool, kind: str = "payment") -> str | None:
        """The answer to who has the lease."""
        call = self.call(kind)
        until = call.next_at
        assert until is not None
        return self.hear(
            answer, kind, attempt=call.attempt, expires_at=until if sent else None,
            leased_at=until - LEASE,
        )  # fmt: skip

    def give_up(self) -> None:
        """Charged without an answer, cancelled, and absent once the request had expired."""
        self.charge()
        self.answered(Silent("no answer in 3 s"), sent=True)
        self.refund()
        self.wait(11)
        self.claim()
        assert self.answered(Absent(), sent=False) == "nothing"

    def claim(self, kind: str = "payment") -> None:
        """Somebody takes the lease."""
        call = self.call(kind)
        self.tables.calls[call.key] = replace(
            call, owner="payment-1", attempt=call.attempt + 1, next_at=self.now + LEASE
        )

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def call(self, kind: str = "payment") -> Call:
        found: Call = self.tables.calls[f"{kind}:o1"]
        return found

    @property
    def state(self) -> PaymentState:
        found: PaymentState = self.tables.payments["o1"].state
        return found

    @property
    def points(self) -> int:
        found: int = self.tables.wallet.points
        return found


@pytest.fixture
def order(tables: Any) -> Order:
    return Order(tables())
