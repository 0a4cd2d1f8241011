"""Two transactions step by step: one stops where a test says so, or waits for the other's lock.

What is interleaved is the code that runs in production, so that a test of an anomaly needs no
chance and no sleep: `stopping_pool` gives that code connections which stop behind one of its
statements, at a level of the test's choice; `lock_waiters` returns once somebody waits; and
`without` is a statement that lacks its protection.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from shared.database.pool import LeanConnection, connect_pool
from shared.testing.signals import Gate, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from shared.database import Pool, Queries, Statement
    from shared.testing.databases import Database

Level: TypeAlias = Literal["read_committed", "repeatable_read", "serializable"]

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'
"""


async def lock_waiters(database: Database, count: int = 1) -> None:
    """Returns once so many statements of this database wait for a lock, of a row or an advisory
    one."""
    async with database.connection() as admin:
        await eventually(
            lambda: admin.fetchval(_WAITING, database.name),
            accept=lambda found: found == count,
            describe=f"{count} wait for a lock",
        )


def without(
    monkeypatch: pytest.MonkeyPatch, queries: Queries, name: str, protection: str
) -> Statement:
    """Takes `protection` out of the text of a statement, and returns the statement."""
    statement: Statement = getattr(queries, name)
    assert protection in statement.sql, f"{name} has no {protection}"
    bare = replace(statement, sql=statement.sql.replace(protection, ""))
    monkeypatch.setitem(queries._statements, name, bare)  # noqa: SLF001 - no other code may
    return bare


@asynccontextmanager
async def stopping_pool(
    dsn: str, *, after: Statement | None = None, level: Level | None = None
) -> AsyncIterator[tuple[Pool, Gate]]:
    """A pool as a service has it, whose connections stop once they have run that statement, and the
    gate at which they stop. With a level every transaction runs at it, whatever it asks for."""
    gate = Gate("the end of the statement")

    async def stop(query: str) -> None:
        if after is not None and query == after.sql:
            await gate.stop()

    class Stopping(LeanConnection):
        def transaction(self, *, isolation: Any = None, **options: Any) -> Any:
            return super().transaction(isolation=level or isolation, **options)

        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            found = await super().fetch(query, *args, **options)
            await stop(query)
            return found

        async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
            found = await super().fetchrow(query, *args, **options)
            await stop(query)
            return found

    async with connect_pool(
        dsn, name="stops", max_connections=4, connection_class=Stopping
    ) as pool:
        yield pool, gate
