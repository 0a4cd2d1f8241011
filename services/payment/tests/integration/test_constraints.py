"""The tables refuse bad states, whatever the code believes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    from shared.testing.databases import Database

CAPTURED = {
    "order_id": "'o1'", "state": "'CAPTURED'", "user_id": "'u1'", "amount": "60",
    "currency": "'KRW'", "method": "'wallet'", "points": "0", "captured": "60", "refunded": "0",
    "is_late": "false", "refusal": "NULL", "fingerprint_version": "1",
    "fingerprint": "decode(repeat('ab', 16), 'hex')",
}  # fmt: skip
REFUSED = CAPTURED | {"state": "'REFUSED'", "captured": "0", "refusal": "'insufficient_balance'"}
TOMBSTONE = dict.fromkeys(CAPTURED, "NULL") | {
    "order_id": "'o1'", "state": "'TOMBSTONE'", "captured": "0", "refunded": "0",
    "is_late": "false",
}  # fmt: skip
PENDING = CAPTURED | {
    "state": "'PENDING'", "method": "'gateway'", "points": "9", "captured": "0",
}  # fmt: skip
LATE = PENDING | {"state": "'REFUNDING'", "captured": "51", "is_late": "true"}
CALL = {
    "key": "'payment:o1'", "order_id": "'o1'", "kind": "'charge'", "state": "'INTENDED'",
    "user_id": "'u1'", "amount": "51", "currency": "'KRW'", "owner": "'payment-0'", "attempt": "1",
    "sends": "0", "next_at": "now()", "command_id": "'c'", "traceparent": "''",
    "quarantine": "NULL",
}  # fmt: skip


def insert(row: dict[str, str], table: str = "payment") -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})"


GOOD = {
    "captured": CAPTURED,
    "refunded": CAPTURED | {"state": "'REFUNDED'", "refunded": "60"},
    "refused": REFUSED,
    "tombstone": TOMBSTONE,
    "pending": PENDING,
    "cancelling": PENDING | {"state": "'CANCELLING'"},
    "refunding": CAPTURED | {"state": "'REFUNDING'"},
    "tombstone of a charge": PENDING | {"state": "'TOMBSTONE'"},
    "late, to be refunded": LATE,
    "late, and refunded": LATE | {"state": "'REFUNDED'", "refunded": "51"},
    "all in points": CAPTURED | {"points": "60"},
}
BAD = {
    "unknown state": PENDING | {"state": "'LOST'"},
    "captured in part": CAPTURED | {"captured": "59"},
    "captured more than was asked": CAPTURED | {"captured": "61"},
    "refunded and still captured": CAPTURED | {"refunded": "60"},
    "refund above the capture": CAPTURED | {"state": "'REFUNDED'", "refunded": "61"},
    "refunded nothing": CAPTURED | {"state": "'REFUNDED'"},
    "nothing charged": CAPTURED | {"amount": "0", "captured": "0"},
    "captured nobody knows what": CAPTURED | {"amount": "NULL"},
    "captured from nobody": CAPTURED | {"user_id": "NULL"},
    "unknown method": CAPTURED | {"method": "'barter'"},
    "negative points": CAPTURED | {"points": "-1"},
    "half a fingerprint": CAPTURED | {"fingerprint": "'\\x00'"},
    "captured and refused": CAPTURED | {"refusal": "'payment_declined'"},
    "refused and captured": REFUSED | {"captured": "60"},
    "refused without a reason": REFUSED | {"refusal": "NULL"},
    "unknown reason": REFUSED | {"refusal": "'bad_mood'"},
    "tombstone of a user": TOMBSTONE | {"user_id": "'u1'"},
    "tombstone with money": TOMBSTONE | {"captured": "1"},
    "pending and captured": PENDING | {"captured": "60"},
    "pending of nobody": TOMBSTONE | {"state": "'PENDING'"},
    "refunding nothing": CAPTURED | {"state": "'REFUNDING'", "captured": "0"},
    "refunding and refunded": CAPTURED | {"state": "'REFUNDING'", "refunded": "60"},
    "more points than money": CAPTURED | {"points": "61"},
    "late with its points": LATE | {"captured": "60"},
    "late and kept": LATE | {"state": "'CAPTURED'"},
    "late from a wallet": LATE | {"method": "'wallet'"},
    "late and nothing": PENDING | {"state": "'TOMBSTONE'", "is_late": "true"},
}
GOOD_CALLS = {
    "intended": CALL,
    "waits for room": CALL | {"owner": "NULL"},
    "refund": CALL | {"kind": "'refund'", "key": "'refund:o1'"},
    "waiting": CALL | {"state": "'WAITING'", "owner": "NULL", "next_at": "NULL"},
    "quarantined": CALL | {"state": "'QUARANTINED'", "quarantine": "'why'", "owner": "NULL",
                           "next_at": "NULL"},
    "closed by hand": CALL | {"state": "'DECLINED'", "owner": "NULL", "next_at": "NULL",
                              "closed_by": "'ann'", "closed_note": "'why'", "closed_at": "now()"},
    "not watched any more": CALL | {"state": "'ABSENT'", "owner": "NULL", "next_at": "NULL"},
}  # fmt: skip
BAD_CALLS = {
    "of no payment": CALL | {"order_id": "'o2'", "key": "'payment:o2'"},
    "another order's key": CALL | {"key": "'payment:o2'"},
    "a refund under the charge's key": CALL | {"kind": "'refund'"},
    "unknown kind": CALL | {"kind": "'void'", "key": "'refund:o1'"},
    "unknown state of a call": CALL | {"state": "'LOST'"},
    "a call for nothing": CALL | {"amount": "0"},
    "a call for less": CALL | {"amount": "-1"},
    "sent less than never": CALL | {"sends": "-1"},
    "quarantined without a reason": CALL | {"state": "'QUARANTINED'"},
    "a reason without quarantine": CALL | {"quarantine": "'why'"},
    "a lease without an end": CALL | {"state": "'ABSENT'", "next_at": "NULL"},
    "intended and never looked at": CALL | {"owner": "NULL", "next_at": "NULL"},
    "closed by nobody": CALL | {"closed_note": "'why'", "closed_at": "now()"},
    "closed for no reason": CALL | {"closed_by": "'ann'", "closed_at": "now()"},
    "unknown and never looked at": CALL | {"state": "'UNKNOWN'", "owner": "NULL",
                                           "next_at": "NULL"},
}  # fmt: skip
FORBIDDEN = {
    "two payments of one order": [insert(CAPTURED), insert(REFUSED)],
    "negative balance": ["INSERT INTO wallet VALUES ('u1', 'KRW', -1)"],
    "overdrawn": [
        "INSERT INTO wallet VALUES ('u1', 'KRW', 5)",
        "UPDATE wallet SET balance = balance - 6",
    ],
    "an entry of nothing": [
        "INSERT INTO ledger_entry VALUES ('payment:o1', 'wallet:u1', 0, 'KRW')"
    ],
    "two wallets of one user": ["INSERT INTO wallet VALUES ('u1', 'KRW', 1)"] * 2,
    "negative points of a wallet": ["INSERT INTO wallet VALUES ('u1', 'KRW', 0, -1)"],
    "overdrawn points": [
        "INSERT INTO wallet VALUES ('u1', 'KRW', 5, 5)",
        "UPDATE wallet SET points = points - 6",
    ],
    "asked twice": [insert(PENDING), insert(CALL, "gateway_call"), insert(CALL, "gateway_call")],
    "payment with calls deleted": [
        insert(PENDING),
        insert(CALL, "gateway_call"),
        "DELETE FROM payment",
    ],
    "heard twice": ["INSERT INTO gateway_event VALUES ('evt_1')"] * 2,
    "refunded twice": ["INSERT INTO ledger_entry VALUES ('refund:o1', 'wallet:u1', 60, 'KRW')"] * 2,
}


CHECKS = """
SELECT conname FROM pg_constraint
WHERE contype IN ('c', 'p', 'f')
  AND conrelid IN ('payment'::regclass, 'gateway_call'::regclass, 'wallet'::regclass,
                   'ledger_entry'::regclass, 'gateway_event'::regclass)
"""


async def test_f30_bad_states_are_refused_and_good_ones_taken(database: Database) -> None:
    cases = {name: [insert(row)] for name, row in BAD.items()} | FORBIDDEN
    for name, row in BAD_CALLS.items():
        cases[name] = [insert(PENDING), insert(row, "gateway_call")]
    broken: set[str | None] = set()
    async with database.connection("payment") as connection:
        for row in GOOD.values():
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(insert(row))
            await transaction.rollback()
        for row in GOOD_CALLS.values():
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(insert(PENDING))
            await connection.execute(insert(row, "gateway_call"))
            await transaction.rollback()
        for name, statements in cases.items():
            transaction = connection.transaction()
            await transaction.start()
            for statement in statements[:-1]:
                await connection.execute(statement)
            try:
                await connection.execute(statements[-1])
            except asyncpg.IntegrityConstraintViolationError as error:
                broken.add(error.constraint_name)
            else:
                pytest.fail(f"taken: {name}")
            await transaction.rollback()
        checks = await connection.fetch(CHECKS)
    assert {row["conname"] for row in checks} <= broken
