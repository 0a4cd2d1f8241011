"""A database of its own for each test, cloned from a template that is migrated once.

The template's name carries a digest of all migrations, so that a changed migration makes a new one
and an unchanged one is used again by the next run. Roles belong to the whole server: `stock`,
`coupon`, `payment`, `orders` and `operator`, as in production, each confined to its schema.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from shared.database import migrations
from shared.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    Postgres = asyncpg.Connection[asyncpg.Record]

PACKAGES: Final[Mapping[str, str]] = {one.schema: one.package for one in SERVICES}
"""Schema -> the package that brings its migrations."""

TEMPLATE_PREFIX = "template_shop_"
CLONE_PREFIX = "test_"
KEPT_FOR = "1 day"
"""How long what killed runs left behind is kept before a later run drops it."""

_TABLES = """
SELECT string_agg(format('%I', tablename), ', ')
FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'schema_migration'
"""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Server:
    """A Postgres server, and how to get in."""

    admin_dsn: str
    """A superuser's."""
    password: str
    """Of every role."""

    def dsn(self, role: str, database: str) -> str:
        """The address of `database` for `role`."""
        parts = urlsplit(self.admin_dsn)
        place = parts.netloc.rpartition("@")[2]
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        return urlunsplit(
            parts._replace(netloc=f"{quote(role)}{secret}@{place}", path=f"/{database}")
        )

    def as_admin(self, database: str) -> str:
        """The address of `database` for the superuser."""
        return urlunsplit(urlsplit(self.admin_dsn)._replace(path=f"/{database}"))


@dataclass(frozen=True, slots=True)
class Database:
    """One test's database: every schema migrated, every table empty."""

    server: Server
    name: str

    def dsn(self, role: str) -> str:
        """For a service's role: `stock`, `coupon`, `payment`, `orders`."""
        return self.server.dsn(role, self.name)

    @property
    def operator_dsn(self) -> str:
        """For the role that reads all schemas and writes none."""
        return self.dsn(migrations.OPERATOR)

    @property
    def admin_dsn(self) -> str:
        """For the superuser, to plant what no role could do."""
        return self.server.as_admin(self.name)

    @asynccontextmanager
    async def connection(self, role: str | None = None) -> AsyncIterator[Postgres]:
        """A connection as `role`, or as the superuser."""
        connection = await asyncpg.connect(self.dsn(role) if role else self.admin_dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def empty(self, role: str) -> None:
        """Empties every table of a role's schema, which is faster than a new database."""
        async with self.connection(role) as connection:
            tables = await connection.fetchval(_TABLES)
            await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")


class Template:
    """The migrated database that tests get copies of. `Template.prepare` makes or finds it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    @classmethod
    async def prepare(cls, server: Server, packages: Mapping[str, str] = PACKAGES) -> Template:
        """Bootstraps and migrates a template, unless one with these very migrations is there.

        `packages` is schema -> package; packages without migrations are left out. Several runs on
        one server wait for each other here. Raises MigrationError and asyncpg's errors.
        """
        present = {schema: name for schema, name in packages.items() if _has_migrations(name)}
        template = cls(server, f"{TEMPLATE_PREFIX}{_digest(present)}")
        admin = await asyncpg.connect(server.admin_dsn)
        try:
            # Roles are the server's, so that two bootstraps at once would collide.
            await admin.execute("SELECT pg_advisory_lock(hashtext('test template'))")
            await _drop_left_overs(admin)
            if not await _is_complete(admin, template.name):
                await template._build(admin, present)
        finally:
            await admin.close()
        return template

    async def _build(self, admin: Postgres, packages: Mapping[str, str]) -> None:
        await _drop(admin, self.name)
        await admin.execute(f'CREATE DATABASE "{self.name}"')
        await migrations.bootstrap(
            self.server.as_admin(self.name), list(packages), self.server.password
        )
        for schema, package in packages.items():
            await migrations.migrate(self.server.dsn(schema, self.name), schema, package)
        # Nobody may connect from now on: a template in use can't be copied. This marks it complete.
        await admin.execute(
            f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS false IS_TEMPLATE true'
        )

    @asynccontextmanager
    async def clone(self) -> AsyncIterator[Database]:
        """A fresh copy, dropped at the end with whoever is still connected."""
        name = f"{CLONE_PREFIX}{os.getpid()}_{next(_numbers)}"
        await self._as_admin(
            f'CREATE DATABASE "{name}" TEMPLATE "{self.name}"',
            # A copy has the template's schemas, and not the rights on the database itself.
            f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC',
        )
        try:
            await self._grant_connect(name)
            yield Database(self.server, name)
        finally:
            await self._as_admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _as_admin(self, *statements: str) -> None:
        admin = await asyncpg.connect(self.server.admin_dsn)
        try:
            for statement in statements:
                await admin.execute(statement)
        finally:
            await admin.close()

    async def _grant_connect(self, name: str) -> None:
        admin = await asyncpg.connect(self.server.admin_dsn)
        try:
            rows = await admin.fetch(
                "SELECT pg_get_userbyid(acl.grantee) AS role FROM pg_database,"
                " aclexplode(datacl) AS acl"
                " WHERE datname = $1 AND acl.privilege_type = 'CONNECT' AND acl.grantee <> datdba",
                self.name,
            )
            for row in rows:
                await admin.execute(f'GRANT CONNECT ON DATABASE "{name}" TO "{row["role"]}"')
        finally:
            await admin.close()


def _has_migrations(package: str) -> bool:
    try:
        return files(package).joinpath("sql/migrations/0001_initial.sql").is_file()
    except ModuleNotFoundError:
        return False


def _digest(packages: Mapping[str, str]) -> str:
    digest = hashlib.sha256(files("shared").joinpath("database/migrations.py").read_bytes())
    for schema, package in sorted(packages.items()):
        digest.update(schema.encode())
        for owner in ("shared", package):
            for migration in migrations.load_migrations(owner):
                digest.update(migration.checksum.encode())
    return digest.hexdigest()[:16]


async def _is_complete(admin: Postgres, name: str) -> bool:
    found = await admin.fetchval("SELECT datistemplate FROM pg_database WHERE datname = $1", name)
    return bool(found)


async def _drop(admin: Postgres, name: str) -> None:
    if await _is_complete(admin, name):
        await admin.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
    await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _drop_left_overs(admin: Postgres) -> None:
    rows = await admin.fetch(
        "SELECT datname FROM pg_database"
        " WHERE (starts_with(datname, $1) OR starts_with(datname, $2))"
        "   AND NOT EXISTS (SELECT FROM pg_stat_activity AS active"
        "                   WHERE active.datname = pg_database.datname)"
        "   AND (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification"
        f"       < now() - interval '{KEPT_FOR}'",
        TEMPLATE_PREFIX,
        CLONE_PREFIX,
    )
    for row in rows:
        await _drop(admin, row["datname"])
