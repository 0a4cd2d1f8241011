"""What would go wrong at the level below, or without the protection, and that it doesn't here.

Each pair is one interleaving of two transactions: docs/isolation.md has the table.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from payment import api
from payment.calls import Absent, Captured, Finding, Pace
from payment.consumers import routes
from payment.outcomes import Outcomes
from payment.settler import Inflow, Settler
from payment.store import Store, queries
from shared.audit import Source, audit
from shared.database import connect_pool
from shared.pipeline.work import Work
from shared.testing.builders import charge_payment, refund_payment, top_up_wallet
from shared.testing.interleaving import Level, lock_waiters, stopping_pool, without
from shared.testing.replicas import RecordingRelay, Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.database import Pool, Statement
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database
    from shared.testing.valkey import Valkey

    MakeReplica = Callable[[], Awaitable[Replica]]

MONEY = (
    "SELECT sum(balance) FROM wallet",
    "SELECT sum(amount) FROM ledger_entry WHERE account = 'wallet:u1'",
)


async def violations(database: Database) -> set[str]:
    report = await audit(database.operator_dsn, [Source("payment", "payment")], only_always=True)
    return {check.name for check in report.violations}


class TestLostUpdate:
    """Of a wallet: two charges with money for one of them."""

    async def race(
        self, database: Database, valkey: Valkey, one: Replica, loaded: Statement, *, waits: bool
    ) -> list[str]:
        """Two chunks, the first of which stops when it has read the wallet."""
        await one.run(top_up_wallet("u1", amount=100))
        outcomes = Outcomes(valkey.url)
        async with stopping_pool(database.dsn("payment"), after=loaded) as (pool, gate):
            first = Replica("payment-9", pool, routes("KRW", None, outcomes))
            ahead = asyncio.create_task(first.run(charge_payment("o-1", user_id="u1", amount=100)))
            await gate.reached()
            behind = asyncio.create_task(one.run(charge_payment("o-2", user_id="u1", amount=100)))
            await (lock_waiters(database) if waits else behind)
            gate.open()
            said = [*await ahead, *await behind]
        await outcomes.close()
        return [row.message_type for row in said]

    async def test_without_the_lock_money_is_spent_twice(
        self,
        database: Database,
        valkey: Valkey,
        replica: MakeReplica,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bare = without(monkeypatch, queries, "lock_wallets", "FOR UPDATE")
        said = await self.race(database, valkey, await replica(), bare, waits=False)
        assert said == ["PaymentCharged", "PaymentCharged"]
        assert await violations(database) == {"balances_agree"}

    async def test_ours_waits_for_the_row(
        self, database: Database, valkey: Valkey, replica: MakeReplica
    ) -> None:
        said = await self.race(database, valkey, await replica(), queries.lock_wallets, waits=True)
        assert said == ["PaymentCharged", "PaymentRefused"]
        assert await violations(database) == set()


class TestTornPage:
    """A payment with its entries, while it is refunded between the two statements."""

    async def read(
        self, database: Database, one: Replica, level: Level | None
    ) -> tuple[str, set[str]]:
        """The payment's state, and the names of the transactions that moved its money."""
        await one.run(top_up_wallet("u1", amount=100))
        await one.run(charge_payment("o-1", user_id="u1", amount=100))
        after = api.queries.page_of_payments
        dsn = database.dsn("payment")
        async with stopping_pool(dsn, after=after, level=level) as (pool, gate):
            pages = api.PaymentsApi(pool, lambda: "closed", _nobody)
            reading = asyncio.create_task(pages._read_payment("o-1"))
            await gate.reached()
            await one.run(refund_payment("o-1"))
            gate.open()
            found: Any = await reading
        return found["state"], {entry["transaction"] for entry in found["entries"]}

    async def test_at_read_committed_a_captured_payment_is_refunded(
        self, database: Database, replica: MakeReplica
    ) -> None:
        state, moved = await self.read(database, await replica(), "read_committed")
        assert (state, moved) == ("CAPTURED", {"payment:o-1", "refund:o-1"})

    async def test_ours_is_of_one_moment(self, database: Database, replica: MakeReplica) -> None:
        state, moved = await self.read(database, await replica(), None)
        assert (state, moved) == ("CAPTURED", {"payment:o-1"})


class TestSumsOverTables:
    """Balances against the ledger, while money comes in: two statements, or one."""

    async def sums(self, database: Database, one: Replica, level: Level) -> list[int]:
        await one.run(top_up_wallet("u1", amount=100))
        async with (
            database.connection("payment") as connection,
            connection.transaction(isolation=level, readonly=True),
        ):
            balances = await connection.fetchval(MONEY[0])
            await one.run(top_up_wallet("u1", amount=50))
            return [balances, await connection.fetchval(MONEY[1])]

    async def test_at_read_committed_two_statements_see_a_violation_that_is_none(
        self, database: Database, replica: MakeReplica
    ) -> None:
        assert await self.sums(database, await replica(), "read_committed") == [100, 150]
        assert await violations(database) == set()

    async def test_at_repeatable_read_they_agree(
        self, database: Database, replica: MakeReplica
    ) -> None:
        assert await self.sums(database, await replica(), "repeatable_read") == [100, 100]


class TestClaims:
    """Leases of calls: two couriers look for what is due at the same moment."""

    async def claim(self, connection: Any, owner: str) -> int:
        claimed = await Store(connection).claim_calls(owner, 10.0, calls=5, retries=5, watches=5)
        return len(claimed)

    async def claim_twice(self, database: Database, *, waits: bool) -> list[int]:
        """How many calls each of two transactions claims, the second before the first commits."""
        await plant(database, "PENDING", "UNKNOWN")
        async with database.connection("payment") as one, database.connection("payment") as other:
            async with one.transaction():
                first = await self.claim(one, "payment-0")
                claiming = asyncio.create_task(self.claim(other, "payment-1"))
                await (lock_waiters(database) if waits else claiming)
            return [first, await claiming]

    async def test_without_a_lock_one_lease_has_two_holders(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without(monkeypatch, queries, "claim_calls", "FOR UPDATE SKIP LOCKED")
        assert await self.claim_twice(database, waits=True) == [1, 1]

    async def test_ours_passes_by(self, database: Database) -> None:
        assert await self.claim_twice(database, waits=False) == [1, 0]


class TestJoinedRow:
    """`ask_anew` decides by the payment what it does to the call. A statement that waited for a
    lock looks at the locked row again, and not at those that it joined to it."""

    async def ask(self, database: Database, pool: Pool) -> tuple[str, str]:
        """An operator asks while one batch of news gives the charge up, and then contradicts that:
        the states of payment and charge when both are over."""
        await plant(database, "CANCELLING", "UNKNOWN", owner="payment-0")
        await plant_refund(database)
        absent = Finding("payment:o-1", Absent(), attempt=1, leased_at=datetime.now(UTC))
        too_much = Finding("payment:o-1", Captured("ch_1", 300, "KRW"))
        async with stopping_pool(database.dsn("payment"), after=queries.lock_calls) as (own, gate):
            inflow = Inflow()
            settler = Settler(
                inflow, Work(own, cast("Relay", RecordingRelay("payment-0")), lease_s=30), None,
                own, currency="KRW", pace=Pace(), keep_s=5.0,
            )  # fmt: skip
            for finding in (absent, too_much):
                inflow.put(finding)
            settling = asyncio.create_task(settler.run_once())
            await gate.reached()
            asking = asyncio.create_task(api.PaymentsApi(pool, str, _nobody)._ask("o-1"))
            await lock_waiters(database)
            gate.open()
            await settling
            await asking
        row = await pool.fetchrow(
            "SELECT payment.state, call.state FROM payment JOIN gateway_call AS call"
            " USING (order_id) WHERE call.kind = 'charge'"
        )
        assert row is not None
        return row[0], row[1]

    async def test_without_its_lock_the_payment_is_the_one_of_before(
        self, database: Database, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without(monkeypatch, api.queries, "ask_anew", " FOR UPDATE\n")
        assert await self.ask(database, pool) == ("TOMBSTONE", "UNKNOWN")

    async def test_ours_locks_the_payment_first(self, database: Database, pool: Pool) -> None:
        assert await self.ask(database, pool) == ("TOMBSTONE", "WATCHED")


class TestJanitors:
    """Of callbacks: two instances delete what is old, and take another's rows for nobody's."""

    async def delete_twice(self, database: Database) -> list[int]:
        async with database.connection("payment") as one, database.connection("payment") as other:
            await one.execute("INSERT INTO gateway_event VALUES ('evt_1', now() - interval '9 d')")
            async with one.transaction():
                first = await Store(one).forget_events(60.0, 10)
                return [first, await Store(other).forget_events(60.0, 10)]

    async def test_without_skip_locked_the_second_waits_for_the_first(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without(monkeypatch, queries, "forget_events", "FOR UPDATE SKIP LOCKED")
        deleting = asyncio.create_task(self.delete_twice(database))
        await lock_waiters(database)
        deleting.cancel()

    async def test_ours_passes_by(self, database: Database) -> None:
        assert await self.delete_twice(database) == [1, 0]


async def plant(database: Database, state: str, call: str, owner: str | None = None) -> None:
    """A payment by the gateway, and its charge, which is due: its lease is over."""
    async with database.connection("payment") as connection:
        await connection.execute(
            "INSERT INTO payment (order_id, state, user_id, amount, currency, method, points,"
            " captured, refunded, fingerprint_version, fingerprint) VALUES ('o-1', $1, 'u1', 100,"
            " 'KRW', 'gateway', 0, 0, 0, 1, decode(repeat('ab', 16), 'hex'))", state,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO gateway_call (key, order_id, kind, state, user_id, amount, currency,"
            " attempt, sends, command_id, traceparent, owner, next_at) VALUES ('payment:o-1',"
            " 'o-1', 'charge', $1, 'u1', 100, 'KRW', 1, 0, 'o-1:charge:do', '', $2,"
            " now() - interval '1 s')", call, owner,
        )  # fmt: skip


async def plant_refund(database: Database) -> None:
    """It waits for the charge of `plant`."""
    async with database.connection("payment") as connection:
        await connection.execute(
            "INSERT INTO gateway_call (key, order_id, kind, state, user_id, amount, currency,"
            " attempt, sends, command_id, traceparent) VALUES ('refund:o-1', 'o-1', 'refund',"
            " 'WAITING', 'u1', 100, 'KRW', 0, 0, 'o-1:charge:undo', '')"
        )


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("payment"), name="api", max_connections=4) as pool:
        yield pool


async def _nobody(order_id: str, operator: str, note: str) -> tuple[str, ...]:
    return ()
