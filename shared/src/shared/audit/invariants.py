"""Invariants as SQL: each package brings a file of named queries that return what violates them.

    -- name: units_are_conserved
    -- Invariant 1, always: available + reserved + sold = received for each product.
    SELECT product_id FROM product WHERE available + reserved + sold <> received;

The comment below the name is read: number, `always` or `at rest`, and the invariant in words.

An audit looks at everything at once. Passes (`check_pass`) come again and again beside production,
so a last line of the comment may say what they do with an invariant that would cost them too much:

    -- In passes: by order, of saga, reservation.       those tables narrowed to some orders
    -- In passes: left out, since it reads all events.
"""

from __future__ import annotations

import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiosql
import asyncpg
from aiosql.adapters.asyncpg import AsyncPGAdapter

from shared import services
from shared.audit.report import VIOLATIONS_LISTED, Check, Moment, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from shared.database import Connection

STATEMENT_TIMEOUT_S = 600
PASS_STATEMENT_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 2
ALL_SCHEMAS = "all schemas"

_COMMENT = re.compile(
    r"Invariant (?P<number>\d+), (?P<moment>always|at rest): (?P<text>.+?)"
    r"( In passes: (by order, of (?P<tables>[a-z_, ]+)|(?P<left_out>left out), .+)\.)?",
    re.DOTALL,
)
_SHARED_FILE = "sql/invariants.sql"


class InvariantFileError(Exception):
    """A file of invariants is missing or says something that can't be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of invariants, and the schema in which its queries run."""

    schema: str | None
    """None: all schemas, for queries that look at several."""
    package: str
    resource: str = "sql/invariants.sql"


SERVICES: Final = tuple(Source(one.schema, one.package) for one in services.SERVICES)


@dataclass(frozen=True, slots=True)
class Invariant:
    """One named query."""

    name: str
    number: int
    moment: Moment
    text: str
    sql: str
    by_order: tuple[str, ...] = ()
    """The tables, or views, that a pass narrows to the orders that it looks at."""
    left_out: bool = False
    """Whether passes leave it to audits."""

    def narrowed(self, orders: Orders) -> tuple[str, list[Any]]:
        """The query over `orders` alone, and its arguments; the whole where it isn't by order.

        A WITH query of a table's name stands before the table itself, but not inside its own text.
        """
        if not self.by_order:
            return self.sql, []
        those = "order_id > $1 AND ($2::text IS NULL OR order_id <= $2) OR order_id = ANY ($3)"
        tables = [f"{name} AS (SELECT * FROM {name} WHERE {those})" for name in self.by_order]  # noqa: S608 - our own names
        return f"WITH {', '.join(tables)}\n{self.sql}", [orders.after, orders.up_to, orders.named]


class Orders(NamedTuple):
    """Some of all orders: those between two ids in the database's order, and those named."""

    after: str
    up_to: str | None
    """The last one; None: to the end."""
    named: Sequence[str] = ()


def load(package: str, resource: str) -> list[Invariant]:
    """Reads a file of invariants. Raises InvariantFileError."""
    try:
        text = files(package).joinpath(resource).read_text("utf-8")
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise InvariantFileError(f"{package} brings no {resource}") from error
    adapter = AsyncPGAdapter()  # type: ignore[no-untyped-call]
    queries = aiosql.from_str(text, lambda: adapter, mandatory_parameters=False)
    return [
        _parse(f"{package}/{resource}", name, getattr(queries, name))
        for name in queries.available_queries
        if not name.endswith("_cursor")
    ]


def _parse(file: str, name: str, query: Any) -> Invariant:
    comment = " ".join((query.__doc__ or "").split())
    match = _COMMENT.fullmatch(comment)
    if match is None:
        raise InvariantFileError(
            f"{file}: the comment below `-- name: {name}` must read "
            f"'Invariant N, always|at rest: what holds', not {comment!r}"
        )
    tables = tuple(re.findall("[a-z_]+", match["tables"] or ""))
    if tables and query.sql.lstrip()[:4].upper() == "WITH":
        raise InvariantFileError(f"{file}: {name} begins with WITH, so it can't be narrowed")
    return Invariant(
        name,
        int(match["number"]),
        Moment(match["moment"]),
        match["text"],
        query.sql,
        by_order=tables,
        left_out=match["left_out"] is not None,
    )


async def audit(
    dsn: str, sources: Sequence[Source] = SERVICES, *, only_always: bool = False
) -> Report:
    """Checks the invariants of `sources`, and the pipeline's own in each of their schemas.

    `dsn` is the operator's, who reads all schemas. Each source is read in one snapshot, so that
    work going on beside it can't look like a violation. With `only_always` those that hold at rest
    alone are left out, and each query has a snapshot of its own, as in `check_pass`. A query that
    fails is reported as not checked. Raises InvariantFileError, OSError and asyncpg's errors where
    the database can't be read at all.
    """
    plan = list(_plan(sources, only_always=only_always))
    checks: list[Check] = []
    connection = await _connected(dsn)
    try:
        for schema, invariants in plan:
            place = schema or ALL_SCHEMAS
            for seen_at_once in [[one] for one in invariants] if only_always else [invariants]:
                async with _snapshot(connection, schema, sources, STATEMENT_TIMEOUT_S):
                    checks += [
                        await _check(connection, place, one, one.sql) for one in seen_at_once
                    ]
    finally:
        await connection.close()
    return Report(tuple(checks))


async def check_pass(dsn: str, orders: Orders, sources: Sequence[Source] = SERVICES) -> Report:
    """Checks what holds always, on `orders` alone where an invariant can be narrowed to them.

    Each query has a snapshot of its own and is one statement, which is enough for it to be sound:
    none holds back the vacuum of hot rows for longer than it takes itself. It uses one core at
    most. Raises what `audit` raises.
    """
    checks: list[Check] = []
    connection = await _connected(dsn)
    try:
        for schema, invariants in _plan(sources, only_always=True):
            for one in invariants:
                if one.left_out:
                    continue
                async with _snapshot(connection, schema, sources, PASS_STATEMENT_TIMEOUT_S):
                    sql, arguments = one.narrowed(orders)
                    place = schema or ALL_SCHEMAS
                    checks.append(await _check(connection, place, one, sql, *arguments))
    finally:
        await connection.close()
    return Report(tuple(checks))


async def _connected(dsn: str) -> Connection:
    """A connection that takes one core at most, and does not wait behind who changes a table."""
    return await asyncpg.connect(
        dsn,
        server_settings={
            "application_name": "audit",
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            "max_parallel_workers_per_gather": "0",
            "jit": "off",
        },
    )


def _plan(
    sources: Sequence[Source], *, only_always: bool
) -> Iterator[tuple[str | None, list[Invariant]]]:
    own = load("shared", _SHARED_FILE)
    with_own: set[str] = set()
    for source in sources:
        invariants = load(source.package, source.resource)
        if source.schema is not None and source.schema not in with_own:
            with_own.add(source.schema)
            invariants = [*invariants, *own]
        yield (
            source.schema,
            [one for one in invariants if not only_always or one.moment is Moment.ALWAYS],
        )


@asynccontextmanager
async def _snapshot(
    connection: Connection, schema: str | None, sources: Sequence[Source], timeout_s: int
) -> AsyncIterator[None]:
    """One view of one schema, or of all that `sources` name; each query has `timeout_s`."""
    every = [source.schema for source in (*sources, *SERVICES) if source.schema]
    path = [schema] if schema else list(dict.fromkeys(every))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(
            "SELECT set_config('search_path', $1, true), set_config('statement_timeout', $2, true)",
            ", ".join(f'"{name}"' for name in path),
            f"{timeout_s}s",
        )
        yield


async def _check(
    connection: Connection, place: str, invariant: Invariant, sql: str, *arguments: Any
) -> Check:
    check = Check(invariant.name, place, invariant.number, invariant.moment, invariant.text)
    started_at = time.monotonic()
    try:
        # A savepoint: a query that fails must not take the others of its snapshot with it.
        async with connection.transaction():
            cursor = await connection.cursor(sql, *arguments)
            rows = await cursor.fetch(VIOLATIONS_LISTED + 1)
    except asyncpg.PostgresError as error:
        check = replace(check, error=f"{type(error).__name__}: {error}")
    else:
        check = replace(
            check,
            violations=tuple(dict(row) for row in rows[:VIOLATIONS_LISTED]),
            more=len(rows) > VIOLATIONS_LISTED,
        )
    return replace(check, took_s=time.monotonic() - started_at)
