"""Several statements in one round trip: each with its own parameters, counts and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.database import Statement, write_all
from shared.pipeline import Conflict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Connection
    from shared.testing.databases import Database

INSERT = Statement(
    "insert_units",
    "INSERT INTO unit (name, amount) -- a comment\n"
    "SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING;",
    ("names", "amounts"),
)
UPDATE = Statement(
    "update_unit",
    "UPDATE unit SET amount = $2::bigint + $2::bigint WHERE name = $1",
    ("name", "half"),
)
LAST = Statement(
    "log", "INSERT INTO told (what) SELECT unnest($1::text[]) RETURNING what", ("what",)
)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as connection:
        await connection.execute(
            "CREATE TEMP TABLE unit (name text PRIMARY KEY, amount bigint CHECK (amount >= 0));"
            "CREATE TEMP TABLE told (what text)"
        )
        yield connection


async def amounts(connection: Connection) -> dict[str, int]:
    return {row["name"]: row["amount"] for row in await connection.fetch("SELECT * FROM unit")}


async def test_each_has_its_own_parameters(connection: Connection) -> None:
    await write_all(connection, [INSERT.write(2, names=["a", "b"], amounts=[1, 2])])
    rows = await write_all(
        connection,
        [
            INSERT.write(1, names=["c"], amounts=[3]),
            UPDATE.write(1, half=10, name="a"),
            UPDATE.write(0, half=10, name="nobody"),
        ],
        LAST.write(None, what=["x", "y"]),
    )
    assert [row["what"] for row in rows] == ["x", "y"]
    assert await amounts(connection) == {"a": 20, "b": 2, "c": 3}


async def test_nothing_to_say_and_nothing_to_write(connection: Connection) -> None:
    assert await write_all(connection, []) == []
    assert [row["what"] for row in await write_all(connection, [], LAST.write(None, what=["x"]))]
    await write_all(connection, [INSERT.write(0, names=[], amounts=[])], LAST.write(0, what=[]))


async def test_another_number_of_rows_is_a_conflict(connection: Connection) -> None:
    write = INSERT.write(2, names=["a", "b"], amounts=[1, 2])
    await write_all(connection, [write])
    with pytest.raises(Conflict, match="insert_units touched 0 rows of 2"):
        await write_all(connection, [UPDATE.write(1, half=1, name="b"), write])
    await write_all(connection, [write._replace(rows=None)])


async def test_an_error_of_one_is_the_error_of_all(connection: Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await write_all(
            connection,
            [
                INSERT.write(1, names=["a"], amounts=[1]),
                INSERT.write(1, names=["b"], amounts=[-1]),
            ],
        )
    assert await amounts(connection) == {}


async def test_they_run_in_their_order_and_the_last_is_last(connection: Connection) -> None:
    """Rows are locked in the order of the parts, and two instances must agree on it."""
    await connection.execute(
        "CREATE TEMP SEQUENCE turn; ALTER TABLE told ADD COLUMN at int DEFAULT nextval('turn')"
    )
    tell = Statement("tell", "INSERT INTO told (what) SELECT unnest($1::text[])", ("what",))
    writes = [tell.write(2, what=["b", "b"]), tell.write(1, what=["a"])]
    await write_all(connection, writes, LAST.write(2, what=["last", "last"]))
    rows = await connection.fetch("SELECT what FROM told ORDER BY at")
    assert [row["what"] for row in rows] == ["b", "b", "a", "last", "last"]
