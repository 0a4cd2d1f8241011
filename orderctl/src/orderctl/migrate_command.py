"""`orderctl migrate`: roles, schemas and their migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from orderctl.running import run
from orderctl.services import SERVICES, role_dsn
from shared.database.migrations import bootstrap, migrate


def migrate_command(
    admin_url: Annotated[
        str,
        typer.Option(
            envvar="ADMIN_DATABASE_URL",
            help="A superuser's address of the database, with its name.",
        ),
    ],
    password: Annotated[
        str,
        typer.Option(envvar="ROLE_PASSWORD", help="What every role logs in with; empty keeps it."),
    ] = "",
) -> None:
    """Create roles and schemas where they are missing, and bring every schema up to date.

    Safe to run at any time and by several at once.

    Example: orderctl migrate --admin-url postgresql://postgres:secret@db:5432/shop
    """

    async def work() -> None:
        await bootstrap(admin_url, [service.schema for service in SERVICES], password)
        for service in SERVICES:
            dsn = role_dsn(admin_url, service.schema, password)
            for name in await migrate(dsn, service.schema, service.package):
                typer.echo(f"{service.schema}: ran {name}")
        typer.echo("all schemas are up to date")

    run(work(), database="ADMIN_DATABASE_URL", url=admin_url)
