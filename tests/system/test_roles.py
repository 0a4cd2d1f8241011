"""Invariant 10: no service's role can read another's schema, nor the operator's write any."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import asyncpg
import pytest

from local_stack import SERVICES

if TYPE_CHECKING:
    from shared.testing.databases import Database

ROLES = [service.role for service in SERVICES if service.role]
TABLES = {
    "stock": "product",
    "coupon": "coupon",
    "payment": "wallet",
    "orders": "saga",
}


async def test_each_role_sees_its_own_schema_and_no_other(database: Database) -> None:
    assert TABLES.keys() == set(ROLES)
    for role in ROLES:
        async with database.connection(role) as connection:
            await connection.execute(f"SELECT * FROM {TABLES[role]}")
    for role, other in permutations(ROLES, 2):
        async with database.connection(role) as connection:
            for table in (TABLES[other], "inbox", "outbox"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(f"SELECT * FROM {other}.{table}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"CREATE TABLE {other}.intruder ()")


async def test_the_operator_reads_all_and_writes_nothing(database: Database) -> None:
    async with database.connection("operator") as connection:
        for role, table in TABLES.items():
            await connection.execute(f"SELECT * FROM {role}.{table}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM {role}.{table}")


async def test_a_frozen_holder_of_locks_is_ended(database: Database) -> None:
    """Every role waits for a bounded time only (F19, F49)."""
    for role in ROLES:
        async with database.connection(role) as connection:
            waits = {
                name: await connection.fetchval(f"SHOW {name}")
                for name in (
                    "lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout",
                )
            }  # fmt: skip
        assert waits == {
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": "2s",
            "statement_timeout": "30s",
        }
