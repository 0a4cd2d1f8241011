"""The last defence: Postgres refuses what no code may store, and the audit finds the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from shared.audit import Source, audit

if TYPE_CHECKING:
    from shared.testing.databases import Database

PRODUCT: dict[str, Any] = {
    "product_id": "P1", "name": "Lamp", "price": 100, "currency": "KRW",
    "strategy": "optimistic", "when_redis_down": "postgres", "max_per_order": None,
    "available": 5, "reserved": 3, "sold": 2, "received": 10, "version": 1,
}  # fmt: skip
RESERVATION: dict[str, Any] = {
    "order_id": "o-1", "state": "RESERVED", "lines": '[["P1", 3, 100]]', "refusal": None,
}  # fmt: skip
MOVEMENT: dict[str, Any] = {
    "command_id": "c-1", "product_id": "P1", "kind": "received", "quantity": 10, "reason": None,
}  # fmt: skip
REFUSAL = '{"reason": "out_of_stock", "details": []}'
SOURCE = (Source("stock", "stock"),)
UNCHECKED = (
    "ALTER TABLE product DROP CONSTRAINT product_available_check, DROP CONSTRAINT product_check;"
)


async def insert(database: Database, table: str, row: dict[str, Any]) -> None:
    columns = ", ".join(row)
    values = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    async with database.connection("stock") as connection:
        await connection.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({values})", *row.values()
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"available": -1, "received": 4},
        {"reserved": -1, "received": 6},
        {"sold": -1, "received": 7},
        {"received": 11},
        {"available": 6},
        {"price": -1},
        {"price": 10**9 + 1},
        {"max_per_order": 0},
        {"max_per_order": 10_001},
        {"version": 0},
        {"strategy": "lucky"},
        {"when_redis_down": "maybe"},
    ],
    ids=str,
)
async def test_f6_a_product_that_can_not_be_is_refused(
    database: Database, changes: dict[str, Any]
) -> None:
    await insert(database, "product", PRODUCT)
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(database, "product", PRODUCT | {"product_id": "P2"} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "LOST"},
        {"lines": "[]"},
        {"refusal": REFUSAL},
        {"state": "COMMITTED", "lines": "[]"},
        {"state": "RELEASED", "refusal": REFUSAL},
        {"state": "REFUSED", "lines": "[]"},
        {"state": "REFUSED", "refusal": REFUSAL},
        {"state": "TOMBSTONE"},
        {"state": "TOMBSTONE", "lines": "[]", "refusal": REFUSAL},
    ],
    ids=str,
)
async def test_a_reservation_that_can_not_be_is_refused(
    database: Database, changes: dict[str, Any]
) -> None:
    await insert(database, "reservation", RESERVATION)
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(database, "reservation", RESERVATION | {"order_id": "o-2"} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": 0},
        {"quantity": -1},
        {"kind": "adjusted", "quantity": 0},
        {"kind": "stolen"},
    ],
    ids=str,
)
async def test_a_movement_that_can_not_be_is_refused(
    database: Database, changes: dict[str, Any]
) -> None:
    adjusted = {"command_id": "c-2", "kind": "adjusted", "quantity": -4}
    await insert(database, "stock_movement", MOVEMENT | adjusted)
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(database, "stock_movement", MOVEMENT | changes)


async def test_a_command_moves_a_product_once(database: Database) -> None:
    await insert(database, "stock_movement", MOVEMENT)
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(database, "stock_movement", MOVEMENT | {"kind": "committed"})


async def whole(database: Database) -> None:
    """A product with each kind of reservation, and a ledger that agrees."""
    await insert(database, "product", PRODUCT)
    await insert(database, "reservation", RESERVATION)
    await insert(
        database,
        "reservation",
        RESERVATION | {"order_id": "o-2", "state": "COMMITTED", "lines": '[["P1", 2, 100]]'},
    )
    await insert(
        database,
        "reservation",
        RESERVATION | {"order_id": "o-3", "state": "RELEASED", "lines": '[["P1", 1, 100]]'},
    )
    for command_id, kind, quantity in (
        ("c-1", "received", 8), ("c-2", "adjusted", 3), ("c-3", "adjusted", -1),
        ("r-1", "reserved", 3), ("r-2", "reserved", 2), ("r-3", "reserved", 1),
        ("k-2", "committed", 2), ("u-3", "released", 1),
    ):  # fmt: skip
        await insert(
            database,
            "stock_movement",
            MOVEMENT | {"command_id": command_id, "kind": kind, "quantity": quantity},
        )


async def test_the_audit_finds_nothing_where_all_is_well(database: Database) -> None:
    await whole(database)
    (await audit(database.operator_dsn, SOURCE)).require()


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        # a CHECK forbids it: only a superuser who takes that away can plant it
        ((UNCHECKED + "UPDATE product SET available = 6"), {"units_are_conserved"}),
        ((UNCHECKED + "UPDATE product SET available = -1, received = 4"),
         {"units_are_conserved", "ledger_agrees"}),
        ("UPDATE product SET available = 6, received = 11", {"ledger_agrees"}),
        ("UPDATE product SET reserved = 2, sold = 3",
         {"ledger_agrees", "reservations_hold_what_is_reserved"}),
        ("DELETE FROM stock_movement WHERE command_id = 'u-3'", {"ledger_agrees"}),
        ("DELETE FROM stock_movement", {"ledger_agrees"}),
        ("UPDATE reservation SET state = 'COMMITTED' WHERE order_id = 'o-1'",
         {"reservations_hold_what_is_reserved"}),
        ("DELETE FROM reservation WHERE order_id = 'o-2'",
         {"reservations_hold_what_is_reserved"}),
        ("DELETE FROM reservation", {"reservations_hold_what_is_reserved"}),
        (("INSERT INTO stock_movement (command_id, product_id, kind, quantity)"
         " VALUES ('c-9', 'P9', 'received', 1)"), {"ledger_agrees"}),
        (("INSERT INTO reservation (order_id, state, lines)"
         " VALUES ('o-9', 'RELEASED', '[[\"P9\", 1, 100]]')"),
         {"reservations_hold_what_is_reserved"}),
        (("UPDATE reservation SET lines = '[[\"P1\", 1, 100], [\"P1\", 2, 100]]'"
         " WHERE order_id = 'o-1'"), {"one_live_reservation"}),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
async def test_the_audit_finds_what_was_planted(template: Any, spoil: str, found: set[str]) -> None:
    async with template.clone() as database:
        await whole(database)
        async with database.connection() as admin:
            await admin.execute(f"SET search_path = stock; {spoil}")
        report = await audit(database.operator_dsn, SOURCE)
    assert {check.name for check in report.violations} == found
