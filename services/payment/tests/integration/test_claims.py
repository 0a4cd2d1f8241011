"""Leases of calls on a real Postgres: who gets which, and what is read as it was written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from payment.calls import Call, key_of
from payment.records import Payment, charge_of
from payment.store import Store
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    CallKind,
    CallState,
    ChargePayment,
    PaymentRefusal,
    PaymentState,
)
from shared.database import Write, write_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Connection
    from shared.testing.databases import Database

LEASE_S = 10.0
MOMENT = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
PENDING = PaymentState.PENDING


def payment_of(order_id: str, state: PaymentState = PENDING, **changes: Any) -> Payment:
    command = ChargePayment(
        command_id=f"{order_id}:charge:do", order_id=order_id, user_id="u1", amount=60,
        currency="KRW", method=PaymentMethod.GATEWAY, points=9,
    )  # fmt: skip
    return replace(Payment(order_id, state, charge_of(command)), **changes)


def call_of(order_id: str, kind: CallKind = CallKind.CHARGE, **changes: Any) -> Call:
    call = Call(key_of(kind, order_id), order_id, kind, CallState.INTENDED, "u1", 51, "KRW",
                f"{order_id}:charge:do", "00-trace", next_at=MOMENT)  # fmt: skip
    return replace(call, **changes)


class Tables:
    """A test's tables, and connections to them."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.database = database
        self.connection = connection
        self.store = Store(connection)

    async def write(self, *writes: Write) -> None:
        async with self.connection.transaction():
            await write_all(self.connection, writes)

    async def add(self, *calls: Call) -> None:
        """These calls as they are, each with its payment."""
        orders = sorted({call.order_id for call in calls})
        await self.write(
            self.store.insert_payments([payment_of(order) for order in orders]),
            self.store.insert_calls(calls),
        )
        await self.write(self.store.update_calls(calls))

    async def claim(
        self, owner: str, calls: int = 100, retries: int = 100, watches: int = 100
    ) -> list[str]:
        claimed = await self.store.claim_calls(
            owner, LEASE_S, calls=calls, retries=retries, watches=watches
        )
        return [call.order_id for call, _ in claimed]

    async def all(self) -> dict[str, Call]:
        rows = await self.connection.fetch("SELECT order_id FROM payment")
        return {call.key: call for call in await self.store.lock_calls([row[0] for row in rows])}


@pytest.fixture
async def tables(database: Database) -> AsyncIterator[Tables]:
    async with database.connection("payment") as connection:
        yield Tables(database, connection)  # type: ignore[arg-type]


FULL = call_of(
    "o1", reference="ch_1", callback_url="http://here/gateway/callbacks", owner="payment-0",
    attempt=3, sends=2, next_at=MOMENT + timedelta(seconds=9),
)  # fmt: skip


async def test_a_call_is_read_as_it_was_written(tables: Tables) -> None:
    bare = call_of("o2", CallKind.REFUND, state=CallState.WAITING, next_at=None)
    await tables.write(
        tables.store.insert_payments([payment_of("o1"), payment_of("o2")]),
        tables.store.insert_calls([FULL, bare]),
    )
    assert await tables.store.lock_calls(["o2", "o1", "o1"]) == [FULL, bare]
    later = replace(
        FULL, state=CallState.QUARANTINED, reference="ch_2", quarantine="why", owner="payment-1",
        attempt=4, sends=3, first_sent_at=MOMENT, expires_at=MOMENT + timedelta(seconds=1),
        next_at=MOMENT + timedelta(seconds=2),
    )  # fmt: skip
    closed = replace(bare, state=CallState.VOID)
    await tables.write(tables.store.update_calls([later, closed]))
    assert await tables.store.lock_calls(["o1", "o2"]) == [later, closed]


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        (PaymentState.PENDING, {}),
        (PaymentState.CANCELLING, {}),
        (PaymentState.CAPTURED, {"captured": 60}),
        (PaymentState.REFUNDING, {"captured": 60}),
        (PaymentState.REFUNDED, {"captured": 60, "refunded": 60}),
        (PaymentState.REFUSED, {"refusal": PaymentRefusal.PAYMENT_DECLINED}),
        (PaymentState.TOMBSTONE, {}),
        (PaymentState.REFUNDING, {"captured": 51, "is_late": True}),
        (PaymentState.REFUNDED, {"captured": 51, "refunded": 51, "is_late": True}),
    ],
)
async def test_a_payment_is_read_as_it_was_written(
    tables: Tables, state: PaymentState, changes: dict[str, Any]
) -> None:
    tombstone = Payment("o2", PaymentState.TOMBSTONE)
    await tables.write(tables.store.insert_payments([payment_of("o1"), tombstone]))
    later = payment_of("o1", state, **changes)
    await tables.write(tables.store.update_payments([later]))
    assert await tables.store.lock_payments(["o2", "o1"]) == [later, tombstone]


async def test_a_claim_takes_what_is_due_with_a_lease_of_its_own(tables: Tables) -> None:
    now = await tables.store.read_clock()
    due = call_of("due", state=CallState.ABSENT, attempt=4, sends=1, first_sent_at=MOMENT,
                  expires_at=MOMENT)  # fmt: skip
    await tables.add(due, call_of("later", next_at=now + timedelta(hours=1)),
                     call_of("never", state=CallState.ABSENT, next_at=None))  # fmt: skip
    ((claimed, is_wanted),) = await tables.store.claim_calls(
        "payment-1", LEASE_S, calls=100, retries=100, watches=9
    )
    assert is_wanted
    assert claimed == replace(due, owner="payment-1", attempt=5, next_at=claimed.next_at)
    assert claimed.next_at is not None
    assert claimed.next_at >= now + timedelta(seconds=LEASE_S)
    assert (await tables.all())["payment:due"] == claimed
    assert await tables.claim("payment-2") == []


@pytest.mark.parametrize("state", [CallState.INTENDED, CallState.UNKNOWN, CallState.ABSENT])
async def test_f27_a_call_whose_lease_ran_out_counts_as_sent_under_that_lease(
    tables: Tables, state: CallState
) -> None:
    ended = (await tables.store.read_clock()) - timedelta(seconds=3)
    await tables.add(call_of("o1", state=state, owner="payment-0", attempt=1, next_at=ended))
    ((claimed, _),) = await tables.store.claim_calls(
        "payment-1", LEASE_S, calls=1, retries=1, watches=9
    )
    assert (claimed.state, claimed.sends) == (CallState.UNKNOWN, 1)
    assert claimed.expires_at == ended
    assert claimed.first_sent_at == ended - timedelta(seconds=LEASE_S)
    again = replace(claimed, next_at=ended)
    await tables.write(tables.store.update_calls([again]))
    ((once_more, _),) = await tables.store.claim_calls(
        "payment-2", LEASE_S, calls=1, retries=1, watches=9
    )
    assert (once_more.sends, once_more.first_sent_at) == (2, claimed.first_sent_at)


@pytest.mark.parametrize("state", list(PaymentState))
async def test_only_a_pending_charge_is_wanted_and_every_refund(
    tables: Tables, state: PaymentState
) -> None:
    calls = call_of("o1"), call_of("o1", CallKind.REFUND)
    await tables.add(*calls)
    await tables.connection.execute(
        "UPDATE payment SET state = $1,"
        " captured = CASE WHEN $1 IN ('CAPTURED', 'REFUNDING', 'REFUNDED') THEN amount ELSE 0 END,"
        " refunded = CASE WHEN $1 = 'REFUNDED' THEN amount ELSE 0 END,"
        " refusal = CASE WHEN $1 = 'REFUSED' THEN 'payment_declined' END",
        state,
    )
    claimed = await tables.store.claim_calls("payment-1", LEASE_S, calls=9, retries=9, watches=9)
    assert {call.kind: is_wanted for call, is_wanted in claimed} == {
        CallKind.CHARGE: state is PENDING,
        CallKind.REFUND: True,
    }


async def test_the_longest_due_come_first_and_retries_keep_to_their_budget(tables: Tables) -> None:
    seconds = [timedelta(seconds=number) for number in range(6)]
    await tables.add(
        *(call_of(f"first-{n}", next_at=MOMENT + seconds[n]) for n in range(6)),
        *(call_of(f"again-{n}", attempt=1, next_at=MOMENT + seconds[n]) for n in range(6)),
    )
    assert set(await tables.claim("a", calls=4, retries=2, watches=9)) == {
        "again-0", "again-1", "first-0", "first-1"
    }  # fmt: skip
    assert set(await tables.claim("b", calls=3, retries=0, watches=9)) == {
        "first-2",
        "first-3",
        "first-4",
    }
    assert set(await tables.claim("c", calls=3, retries=3, watches=9)) == {
        "again-2",
        "again-3",
        "again-4",
    }
    assert set(await tables.claim("d", calls=0, retries=0, watches=9)) == set()
    assert set(await tables.claim("e", calls=9, retries=9, watches=9)) == {"again-5", "first-5"}


async def test_f26_no_number_of_watched_calls_keeps_others_waiting(tables: Tables) -> None:
    await tables.add(
        *(call_of(f"watched-{n}", state=CallState.WATCHED, attempt=9) for n in range(500)),
        *(call_of(f"again-{n}", attempt=1, next_at=MOMENT + timedelta(1)) for n in range(3)),
        *(call_of(f"first-{n}", next_at=MOMENT + timedelta(1)) for n in range(3)),
    )
    claimed = await tables.claim("a", calls=10, retries=3, watches=100)
    assert sorted(claimed)[:6] == [f"{name}-{n}" for name in ("again", "first") for n in range(3)]
    assert len(claimed) == 10
    assert len(await tables.claim("b", calls=100, retries=100, watches=7)) == 7


async def test_f26_a_watched_call_whose_lease_ran_out_was_only_asked_for(tables: Tables) -> None:
    watched = call_of("o1", state=CallState.WATCHED, attempt=9, sends=1, owner="payment-0",
                      first_sent_at=MOMENT, expires_at=MOMENT)  # fmt: skip
    await tables.add(watched)
    ((claimed, _),) = await tables.store.claim_calls(
        "payment-1", LEASE_S, calls=1, retries=1, watches=1
    )
    assert (claimed.state, claimed.sends, claimed.expires_at) == (CallState.WATCHED, 1, MOMENT)


async def test_two_that_claim_at_once_share_nothing(tables: Tables) -> None:
    numbers = range(400)
    await tables.add(*(call_of(f"o{n}", attempt=n % 2) for n in numbers))

    async def claim_all(owner: str) -> list[str]:
        claimed: list[str] = []
        async with tables.database.connection("payment") as connection:
            store = Store(connection)  # type: ignore[arg-type]
            while found := await store.claim_calls(owner, LEASE_S, calls=8, retries=4, watches=9):
                claimed += [call.order_id for call, _ in found]
        return claimed

    shares = await asyncio.gather(*(claim_all(f"payment-{n}") for n in range(4)))
    assert sorted(order for share in shares for order in share) == sorted(f"o{n}" for n in numbers)


async def test_a_call_that_is_being_decided_is_passed_by(tables: Tables) -> None:
    await tables.add(
        call_of("o1"), call_of("o2"), call_of("o3", attempt=1), call_of("o4", attempt=1)
    )
    async with (
        tables.database.connection("payment") as other,
        other.transaction(),
        asyncio.timeout(10),
    ):
        await Store(other).lock_calls(["o1", "o3"])  # type: ignore[arg-type]
        assert sorted(await tables.claim("payment-1")) == ["o2", "o4"]
    assert sorted(await tables.claim("payment-1")) == ["o1", "o3"]


async def test_each_callback_is_new_once(tables: Tables) -> None:
    assert await tables.store.remember_events({"e1", "e2"}) == {"e1", "e2"}
    assert await tables.store.remember_events({"e2", "e3"}) == {"e3"}
    assert await tables.store.forget_events(3_600, 10) == 0
    await tables.connection.execute("UPDATE gateway_event SET received_at = now() - interval '2h'")
    assert await tables.store.forget_events(3_600, 2) == 2
    assert len(await tables.store.remember_events({"e1", "e2", "e3"})) == 2
