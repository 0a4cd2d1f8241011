"""The second migration takes what lies in the tables of the first."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.testing.databases import Database

FOLDER = files("payment") / "sql/migrations"
TABLES = "gateway_event, gateway_call, ledger_entry, payment, wallet"
ROWS = """
INSERT INTO wallet VALUES ('u1', 'KRW', 40);
INSERT INTO payment (order_id, state, user_id, amount, currency, method, points, captured,
                     refunded, refusal, fingerprint_version, fingerprint)
VALUES ('o1', 'CAPTURED', 'u1', 60, 'KRW', 'wallet', 0, 60, 0, NULL, 1, decode(repeat('ab', 16), 'hex')),
       ('o2', 'REFUNDED', 'u1', 60, 'KRW', 'wallet', 0, 60, 60, NULL, 1, decode(repeat('ab', 16), 'hex')),
       ('o3', 'REFUSED', 'u1', 60, 'KRW', 'gateway', 5, 0, 0, 'method_unavailable', 1,
        decode(repeat('ab', 16), 'hex')),
       ('o4', 'TOMBSTONE', NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO ledger_entry VALUES ('payment:o1', 'wallet:u1', -60, 'KRW'),
                                ('payment:o1', 'house:revenue', 60, 'KRW');
"""  # noqa: E501 - a row a line


async def test_rows_from_before_the_gateway_stay_as_they_are(database: Database) -> None:
    first, *others = sorted(
        (file for file in FOLDER.iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    async with database.connection("payment") as connection:
        await connection.execute(f"DROP TABLE {TABLES}; {first.read_text()}; {ROWS}")
        kept = {
            table: await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
            for table in ("wallet", "payment", "ledger_entry")
        }
        for migration in others:
            await connection.execute(migration.read_text())
        for table, rows in kept.items():
            found = await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
            assert [dict(row).items() >= dict(old).items() for row, old in
                    zip(found, rows, strict=True)] == [True] * len(rows)  # fmt: skip
        assert await connection.fetchval("SELECT sum(points) FROM wallet") == 0
        assert await connection.fetchval("SELECT bool_or(is_late) FROM payment") is False
