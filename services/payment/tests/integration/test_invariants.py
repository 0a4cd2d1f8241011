"""The audit finds what is wrong: one planted violation, or more, for each invariant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.audit import Source, audit
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import ChargePayment, RefundPayment, TopUpWallet
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.testing.databases import Database
    from shared.testing.replicas import Replica

    MakeReplica = Callable[[], Awaitable[Replica]]


async def _trade(replica: Replica) -> None:
    """Two users; a capture, a refund and a refusal."""
    await replica.run(
        *(
            TopUpWallet(command_id=f"t-{user}", user_id=user, amount=100, currency="KRW")
            for user in ("u1", "u2")
        )
    )
    await replica.run(
        *(
            ChargePayment(
                command_id=f"{order}:charge:do",
                order_id=order,
                user_id="u1",
                amount=50,
                currency="KRW",
                method=PaymentMethod.WALLET,
                points=0,
            )
            for order in ("o1", "o2", "o3")
        )
    )
    await replica.run(RefundPayment(command_id="o2:charge:undo", order_id="o2"))


PLANTED = {
    "ledger_sums_to_zero": {
        "money from nowhere": "UPDATE ledger_entry SET amount = amount + 1"
        " WHERE transaction_id = 'top-up:t-u1' AND account = 'house:treasury'",
        "a transaction in two currencies": "UPDATE ledger_entry SET currency = 'USD'"
        " WHERE account = 'house:treasury'",
    },
    "balances_agree": {
        "a balance without its entry": "UPDATE wallet SET balance = 101 WHERE user_id = 'u2'",
        "another currency": "UPDATE wallet SET currency = 'USD' WHERE user_id = 'u2'",
        "entries without a wallet": "DELETE FROM wallet WHERE user_id = 'u2'",
        "a negative balance": "ALTER TABLE wallet DROP CONSTRAINT wallet_balance_check;"
        "UPDATE wallet SET balance = -1 WHERE user_id = 'u2';"
        "INSERT INTO ledger_entry VALUES ('theft', 'wallet:u2', -101, 'KRW'),"
        " ('theft', 'house:revenue', 101, 'KRW')",
    },
    "captures_agree": {
        "a capture without a payment": "DELETE FROM payment WHERE order_id = 'o1'",
        "a capture that moved nothing": "DELETE FROM ledger_entry"
        " WHERE transaction_id = 'payment:o1';"
        "UPDATE wallet SET balance = 100 WHERE user_id = 'u1'",
        "a refund that moved nothing": "DELETE FROM ledger_entry"
        " WHERE transaction_id = 'refund:o2';"
        "UPDATE wallet SET balance = 0 WHERE user_id = 'u1'",
        "a capture from another user": "UPDATE ledger_entry SET account = 'wallet:u2'"
        " WHERE transaction_id = 'payment:o1' AND account = 'wallet:u1';"
        "UPDATE wallet SET balance = CASE user_id WHEN 'u1' THEN 100 ELSE 50 END",
        "a refund of another order": "UPDATE ledger_entry SET transaction_id = 'refund:o1'"
        " WHERE transaction_id = 'refund:o2'",
    },
}
"""Invariant -> what violates it and no other, and how to do it."""


async def test_what_payment_does_is_sound(database: Database, replica: MakeReplica) -> None:
    await _trade(await replica())
    sources = [Source("payment", "payment")]
    report = await audit(database.operator_dsn, sources, only_always=True)
    report.require()
    assert {check.name for check in report.checks} >= PLANTED.keys()


async def test_each_planted_violation_is_found_by_its_invariant_and_no_other(
    database: Database, replica: MakeReplica
) -> None:
    await _trade(await replica())
    queries = Queries("payment", "sql/invariants.sql")
    planted = [(name, fault, how) for name, each in PLANTED.items() for fault, how in each.items()]
    async with database.connection() as connection:
        await connection.execute("SET search_path = payment")
        for name, fault, how in planted:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(how)
            found = [query.name for query in queries if await query.rows(connection)]
            assert found == [name], fault
            await transaction.rollback()
