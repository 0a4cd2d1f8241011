"""Roles, schemas and numbered migrations.

Each service has one schema and one role of the same name, which owns the schema and can't see
another's. `bootstrap` makes both, as a superuser; `migrate` runs as the service's own role, so a
migration can touch nothing else either. What ran is recorded with a checksum: a migration that
changes after it ran is an error, not a surprise.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database.pool import Connection

OPERATOR = "operator"
"""The role that reads all schemas and writes none."""

_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,30}")
_SHARED = "shared"

# What a role may wait for. A frozen holder of locks frees its rows after two seconds.
_ROLE_TIMEOUTS = {
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "2s",
    "statement_timeout": "30s",
}

# Who waited for the lock must see what its holder did: at a higher level the view is older than the
# lock, and what ran would run again.
_AFTER_THE_LOCK: Final = "read_committed"


class MigrationError(Exception):
    """The schema and the migrations don't fit together; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file of one package."""

    package: str
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(package: str) -> list[Migration]:
    """The migrations of `package`, in order; raises `MigrationError` on a gap or a bad name."""
    folder = "database/sql/migrations" if package == _SHARED else "sql/migrations"
    found = []
    migrations = files(package).joinpath(folder)
    for file in migrations.iterdir() if migrations.is_dir() else ():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise MigrationError(
                f"{package}: {file.name} is no name for a migration; call it NNNN_what_it_does.sql"
            )
        found.append(
            Migration(package, int(match["number"]), match["name"], file.read_text("utf-8"))
        )
    found.sort(key=lambda migration: migration.number)
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise MigrationError(
                f"{package}: migration {expected:04d} is missing or there twice; "
                "numbers rise by one from 0001"
            )
    return found


async def bootstrap(admin_dsn: str, schemas: Sequence[str], password: str) -> None:
    """Create each schema with its role, and the operator's role; may run again at any time.

    `admin_dsn` is a superuser's. Every role gets `password`, where it is not empty.
    """
    connection = await asyncpg.connect(admin_dsn)
    try:
        async with connection.transaction(isolation=_AFTER_THE_LOCK):
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('bootstrap'))")
            database = str(await connection.fetchval("SELECT current_database()"))
            await _ensure_role(connection, OPERATOR, password)
            await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            await connection.execute(
                f"REVOKE ALL ON DATABASE {_quoted(database)} FROM PUBLIC;"
                f"GRANT CONNECT ON DATABASE {_quoted(database)} TO {OPERATOR}"
            )
            for schema in schemas:
                role = _identifier(schema)
                await _ensure_role(connection, role, password)
                await connection.execute(
                    f"GRANT CONNECT ON DATABASE {_quoted(database)} TO {role};"
                    f"CREATE SCHEMA IF NOT EXISTS {role} AUTHORIZATION {role};"
                    f"ALTER ROLE {role} SET search_path = {role};"
                    f"GRANT USAGE ON SCHEMA {role} TO {OPERATOR};"
                    f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA {role}"
                    f" GRANT SELECT ON TABLES TO {OPERATOR};"
                    f"GRANT SELECT ON ALL TABLES IN SCHEMA {role} TO {OPERATOR}"
                )
                for name, value in _ROLE_TIMEOUTS.items():
                    await connection.execute(f"ALTER ROLE {role} SET {name} = '{value}'")
    finally:
        await connection.close()


async def migrate(dsn: str, schema: str, package: str) -> list[str]:
    """Bring `schema` up to date, as its own role; returns the names of what ran.

    First the tables of the pipeline, then those of `package`. All of it is one transaction under
    an advisory lock, so that several instances may start at once. Raises `MigrationError` when a
    migration that ran was changed, or when the schema is newer than this code.
    """
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation=_AFTER_THE_LOCK):
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", schema)
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute(f"SET LOCAL search_path = {_identifier(schema)}")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migration ("
                "package text, number integer, name text NOT NULL, checksum text NOT NULL,"
                "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (package, number))"
            )
            ran = []
            for owner in (_SHARED, package):
                for migration in await _pending(connection, owner):
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "INSERT INTO schema_migration (package, number, name, checksum)"
                        " VALUES ($1, $2, $3, $4)",
                        owner,
                        migration.number,
                        migration.name,
                        migration.checksum,
                    )
                    ran.append(f"{owner}/{migration.number:04d}_{migration.name}")
            return ran
    finally:
        await connection.close()


async def pending(connection: Connection, package: str) -> list[str]:
    """Name what `migrate` would still run for `package`, in the connection's own schema."""
    if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
        return [f"{package}: no migration ran yet"]
    return [
        f"{owner}/{migration.number:04d}_{migration.name}"
        for owner in (_SHARED, package)
        for migration in await _pending(connection, owner)
    ]


async def _pending(connection: Connection, package: str) -> list[Migration]:
    applied = {
        row["number"]: row["checksum"]
        for row in await connection.fetch(
            "SELECT number, checksum FROM schema_migration WHERE package = $1", package
        )
    }
    waiting = []
    for migration in load_migrations(package):
        checksum = applied.pop(migration.number, None)
        if checksum is None:
            waiting.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"{package}: migration {migration.number:04d}_{migration.name} was changed after it"
                " ran; restore its text and write the change as a new migration"
            )
    if applied:
        # Code of the version before runs on, while a deploy is under way (see F53).
        newest = max(applied)
        if waiting:
            raise MigrationError(f"{package}: {newest:04d} ran before {waiting[0].number:04d}")
    return waiting


async def _ensure_role(connection: Connection, role: str, password: str) -> None:
    exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
    if not exists:
        await connection.execute(f"CREATE ROLE {_identifier(role)} LOGIN")
    if password:
        literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
        await connection.execute(f"ALTER ROLE {_identifier(role)} PASSWORD {literal}")


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise MigrationError(f"{name!r} is no name for a schema; use a-z, 0-9 and _")
    return name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
