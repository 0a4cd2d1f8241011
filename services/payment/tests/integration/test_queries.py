"""Every named statement fits the migrated schema, so a typo is found here and not in traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database import Queries

if TYPE_CHECKING:
    from shared.testing.databases import Database


async def test_every_query_can_be_prepared(database: Database) -> None:
    statements = list(Queries("payment", "sql/queries.sql"))
    assert len(statements) == 15
    async with database.connection("payment") as connection:
        for statement in statements:
            await connection.prepare(statement.sql)


async def test_every_query_keeps_to_its_index_on_tables_that_were_never_analysed(
    database: Database,
) -> None:
    """A plan is kept from when the tables were empty: a scan would cost more with each order."""
    async with database.connection("payment") as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for statement in Queries("payment", "sql/queries.sql"):
            await connection.execute(f"PREPARE looked_at AS {statement.sql}")
            nulls = ", ".join(["NULL"] * len(statement.parameters))
            values = f"({nulls})" if nulls else ""
            plan = await connection.fetch(f"EXPLAIN EXECUTE looked_at{values}")
            await connection.execute("DEALLOCATE looked_at")
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan" not in text, f"{statement.name}:\n{text}"
