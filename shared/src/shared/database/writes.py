"""What a transaction saves, in one round trip however many tables it changes."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.database.faults import Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

    from shared.database.pool import Connection
    from shared.database.queries import Statement

_PARAMETER = re.compile(r"\$(\d+)")


class Write(NamedTuple):
    """A statement that changes rows, to be run together with others of its transaction.

    All of them see the rows as they were before, so none may touch a row that another writes.
    """

    statement: Statement
    parameters: Mapping[str, Any]
    rows: int | None
    """How many rows it touches, unless another instance was faster; None where any number will
    do."""


async def write_all(
    connection: Connection, writes: Sequence[Write], last: Write | None = None
) -> list[asyncpg.Record]:
    """Run `writes` in their order, and return what `last` returns.

    Raises `Conflict` where one of them touches another number of rows than it says.
    """
    calls = [*writes, last] if last is not None else list(writes)
    if not calls:
        return []
    sql = _joined(tuple([write.statement.sql for write in writes]), last and last.statement.sql)
    arguments = chain.from_iterable(
        [map(call.parameters.__getitem__, call.statement.parameters) for call in calls]
    )
    rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
    if writes:
        for write, touched in zip(writes, rows[0]["touched"], strict=True):
            if write.rows is not None and touched != write.rows:
                raise Conflict(
                    f"{write.statement.name} touched {touched} rows of {write.rows}:"
                    " another instance was faster"
                )
    return rows


@lru_cache(maxsize=256)
def _joined(writes: tuple[str, ...], last: str | None) -> str:
    """One statement of several: each a part of its own that counts its rows.

    Postgres runs a part when somebody asks for its rows: the counts are asked for in the order
    of the parts, and before what is `written` last.
    """
    if not writes:
        assert last is not None
        return last
    parts: list[str] = []
    shift = 0
    for number, sql in enumerate(writes):
        parts.append(f"write_{number} AS ({_shifted(sql, shift)}\nRETURNING 1)")
        shift += _parameters(sql)
    counts = ", ".join(
        [f"(SELECT count(*) FROM write_{number})" for number in range(len(writes))]  # noqa: S608
    )
    parts.append(f"counted AS MATERIALIZED (SELECT ARRAY[{counts}] AS touched)")
    select = "SELECT * FROM counted"
    if last is not None:
        parts.append(f"written AS ({_shifted(last, shift)}\n)")
        select += " LEFT JOIN written ON true"
    return f"WITH {', '.join(parts)} {select}"


def _shifted(sql: str, shift: int) -> str:
    """`sql` as a part of another, its parameters counted from `shift` on."""
    text = sql.strip().removesuffix(";")
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + shift}", text)


def _parameters(sql: str) -> int:
    return max((int(found) for found in _PARAMETER.findall(sql)), default=0)
