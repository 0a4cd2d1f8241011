"""Invariants as SQL: each package brings a file of named queries that return what violates them.

    -- name: units_are_conserved
    -- Invariant 1, always: available + reserved + sold = received for each product.
    SELECT product_id FROM product WHERE available + reserved + sold <> received;

The comment below the name is read: number, `always` or `at rest`, and the invariant in words.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import aiosql
import asyncpg
from aiosql.adapters.asyncpg import AsyncPGAdapter

from shared.audit.report import Check, Moment, Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.database import Connection

VIOLATIONS_LISTED = 100
STATEMENT_TIMEOUT_S = 600

_COMMENT = re.compile(
    r"Invariant (?P<number>\d+), (?P<moment>always|at rest): (?P<text>.+)", re.DOTALL
)
_SHARED_FILE = "sql/invariants.sql"


class InvariantFileError(Exception):
    """A file of invariants is missing or says something that can't be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of invariants, and the schema in which its queries run."""

    schema: str | None
    """None: no schema; the queries name theirs, since they look at several."""
    package: str
    resource: str = "sql/invariants.sql"


SERVICES: Final = (
    Source("stock", "stock"),
    Source("coupon", "coupon"),
    Source("payment", "payment"),
    Source("orders", "order_orchestrator"),
)


@dataclass(frozen=True, slots=True)
class Invariant:
    """One named query."""

    name: str
    number: int
    moment: Moment
    text: str
    sql: str


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
    return Invariant(name, int(match["number"]), Moment(match["moment"]), match["text"], query.sql)


async def audit(
    dsn: str, sources: Sequence[Source] = SERVICES, *, only_always: bool = False
) -> Report:
    """Checks the invariants of `sources`, and the pipeline's own in each of their schemas.

    `dsn` is the operator's, who reads all schemas. Each source is read in one snapshot, so that
    work going on beside it can't look like a violation; with `only_always` those that hold at rest
    alone are left out. A query that fails is reported as not checked. Raises InvariantFileError,
    OSError and asyncpg's errors where the database can't be read at all.
    """
    plan = list(_plan(sources, only_always=only_always))
    checks: list[Check] = []
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "audit"})
    try:
        for schema, invariants in plan:
            checks.extend(await _check_schema(connection, schema, invariants))
    finally:
        await connection.close()
    return Report(tuple(checks))


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


async def _check_schema(
    connection: asyncpg.Connection[asyncpg.Record],
    schema: str | None,
    invariants: Sequence[Invariant],
) -> list[Check]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(
            "SELECT set_config('search_path', $1, true), set_config('statement_timeout', $2, true)",
            f'"{schema}"' if schema else "pg_catalog",
            f"{STATEMENT_TIMEOUT_S}s",
        )
        return [
            await _check(connection, schema or "all schemas", invariant) for invariant in invariants
        ]


async def _check(connection: Connection, place: str, invariant: Invariant) -> Check:
    check = Check(invariant.name, place, invariant.number, invariant.moment, invariant.text)
    started_at = time.monotonic()
    try:
        # A savepoint: a query that fails must not take the others of its snapshot with it.
        async with connection.transaction():
            cursor = await connection.cursor(invariant.sql)
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
