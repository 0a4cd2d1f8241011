"""The SQL of the orchestrator fits its schema, and its enums are those of Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import asyncpg
import pytest

from order_orchestrator.domain import SagaState
from order_orchestrator.searching import searches
from order_orchestrator.store import queries
from shared.database import Queries
from shared.database.migrations import load_migrations

if TYPE_CHECKING:
    from shared.testing.databases import Database


@pytest.mark.parametrize(
    ("path", "least"),
    [("sql/queries.sql", 17), ("sql/searches.sql", 8), ("sql/invariants.sql", 10)],
)
async def test_every_named_query_prepares(database: Database, path: str, least: int) -> None:
    found = list(Queries("order_orchestrator", path))
    assert len(found) >= least
    async with database.connection("orders") as connection:
        for query in found:
            await connection.prepare(query.sql)


async def test_no_query_reads_the_orders_that_have_ended(database: Database) -> None:
    """What an order costs must not grow with the orders before it."""
    async with database.connection("orders") as connection:
        await connection.execute(
            _row(
                order_id="'past-' || number",
                state="CONFIRMED",
                told_version="1",
                told_at="now()",
            ).replace("VALUES (", "SELECT ")[:-1]
            + " FROM generate_series(1, 5000) AS number"
        )
        await connection.execute("ANALYZE saga")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for query in [*queries, *searches]:
            await connection.execute(f"PREPARE looked_at AS {query.sql}")
            nulls = ", ".join(["NULL"] * len(query.parameters))
            arguments = f"({nulls})" if nulls else ""
            plan = await connection.fetch(f"EXPLAIN EXECUTE looked_at{arguments}")
            await connection.execute("DEALLOCATE looked_at")
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan on saga" not in text, f"{query.name}:\n{text}"


async def test_the_states_are_those_of_the_check(database: Database) -> None:
    migration, *_ = load_migrations("order_orchestrator")
    check = re.search(r"CHECK \(state IN \((.*?)\)\)", migration.sql, re.DOTALL)
    assert check is not None
    assert set(re.findall(r"'(\w+)'", check[1])) == {state.value for state in SagaState}
    async with database.connection("orders") as connection:
        for state in ("", "STUCK", "confirmed"):
            with pytest.raises(asyncpg.CheckViolationError, match="state"):
                await connection.execute(_row(state=state))


@pytest.mark.parametrize(
    "column",
    [
        {"version": "0"},
        {"fingerprint": "'short'"},
        {"state": "PENDING"},
        {"pending_since": "now()"},
        {"state": "PENDING", "pending_since": "now()", "waiting": "true"},
        {"stuck_since": "now()"},
        {"told_version": "1"},
        {"state": "CONFIRMED"},
        {"state": "REJECTED"},
        {"state": "CANCELLED"},
    ],
    ids=str,
)
async def test_a_row_that_contradicts_itself_is_impossible(
    database: Database, column: dict[str, str]
) -> None:
    async with database.connection("orders") as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(_row())
        await transaction.rollback()
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(_row(**column))


def _row(*, state: str = "RESERVING", **changes: str) -> str:
    columns = {
        "order_id": "'o-1'",
        "user_id": "'user_1'",
        "fingerprint": "decode(repeat('00', 16), 'hex')",
        "fingerprint_version": "1",
        "accepted_at": "now()",
        "placed": "'{}'",
        "definition_version": "1",
        "state": f"'{state}'",
        "version": "1",
        "progress": "'{}'",
        "history": "''",
        "waiting": "false",
    } | changes
    return f"INSERT INTO saga ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
