"""Named SQL statements, read from files and called with named parameters.

aiosql parses the files. Its own asyncpg adapter isn't used for calls: it inspects the
connection on each one, which costs more than the driver does.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter

from shared.database.writes import Write

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from shared.database.pool import Connection


@dataclass(frozen=True, slots=True)
class Statement:
    """One named statement: its SQL with numbered parameters, and their names in that order."""

    name: str
    sql: str
    parameters: tuple[str, ...]

    def write(self, rows: int | None, **parameters: Any) -> Write:
        """This statement as one of several that are run together; it is to touch `rows` rows."""
        return Write(self, parameters, rows)

    async def rows(self, connection: Connection, **parameters: Any) -> list[asyncpg.Record]:
        """Run it and return its rows."""
        return await connection.fetch(self.sql, *map(parameters.__getitem__, self.parameters))

    async def row(self, connection: Connection, **parameters: Any) -> asyncpg.Record | None:
        """Run it and return its first row, or None."""
        return await connection.fetchrow(self.sql, *map(parameters.__getitem__, self.parameters))

    async def value(self, connection: Connection, **parameters: Any) -> Any:
        """Run it and return the first column of its first row, or None."""
        return await connection.fetchval(self.sql, *map(parameters.__getitem__, self.parameters))

    async def run(self, connection: Connection, **parameters: Any) -> int:
        """Run it and return how many rows it touched."""
        status = await connection.execute(self.sql, *map(parameters.__getitem__, self.parameters))
        return int(status.rsplit(" ", 1)[-1])


class Queries:
    """The statements of one SQL file, each as an attribute under its name."""

    def __init__(self, package: str, path: str) -> None:
        """Read `path` inside `package`; raises when the file or a statement can't be parsed."""
        adapter = AsyncPGAdapter()  # type: ignore[no-untyped-call]
        text = (files(package) / path).read_text(encoding="utf-8")
        parsed = aiosql.from_str(text, lambda: adapter, mandatory_parameters=False)
        self._statements: dict[str, Statement] = {}
        for name in parsed.available_queries:
            if name.endswith("_cursor"):
                continue
            function = getattr(parsed, name)
            self._statements[name] = Statement(
                name, function.sql, tuple(adapter.var_sorted.get(name, ()))
            )

    def __getattr__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"no SQL statement is named {name!r}") from None

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._statements.values())
