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
    "refusal": "NULL", "fingerprint_version": "1", "fingerprint": "decode(repeat('ab', 16), 'hex')",
}  # fmt: skip
REFUSED = CAPTURED | {"state": "'REFUSED'", "captured": "0", "refusal": "'insufficient_balance'"}
TOMBSTONE = dict.fromkeys(CAPTURED, "NULL") | {
    "order_id": "'o1'", "state": "'TOMBSTONE'", "captured": "0", "refunded": "0",
}  # fmt: skip


def insert(row: dict[str, str]) -> str:
    return f"INSERT INTO payment ({', '.join(row)}) VALUES ({', '.join(row.values())})"


GOOD = {
    "captured": CAPTURED,
    "refunded": CAPTURED | {"state": "'REFUNDED'", "refunded": "60"},
    "refused": REFUSED,
    "tombstone": TOMBSTONE,
}
BAD = {
    "unknown state": CAPTURED | {"state": "'LOST'"},
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
}
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
    "refunded twice": ["INSERT INTO ledger_entry VALUES ('refund:o1', 'wallet:u1', 60, 'KRW')"] * 2,
}


async def test_f30_bad_states_are_refused_and_good_ones_taken(database: Database) -> None:
    cases = {name: [insert(row)] for name, row in BAD.items()} | FORBIDDEN
    async with database.connection("payment") as connection:
        for row in GOOD.values():
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(insert(row))
            await transaction.rollback()
        for name, statements in cases.items():
            transaction = connection.transaction()
            await transaction.start()
            for statement in statements[:-1]:
                await connection.execute(statement)
            try:
                await connection.execute(statements[-1])
            except asyncpg.IntegrityConstraintViolationError:
                pass
            else:
                pytest.fail(f"taken: {name}")
            await transaction.rollback()
