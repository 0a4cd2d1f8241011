"""The operator's command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orderctl import dead_letter_commands, order_commands, stock_commands
from orderctl.audit_command import audit_command
from orderctl.options import Bootstrap, Prefix
from orderctl.running import run
from orderctl.services import SERVICES, role_dsn
from shared.contracts.topics import TOPICS
from shared.database.migrations import bootstrap, migrate
from shared.kafka.connection import KafkaConnection
from shared.kafka.topics import create_topics, verify_topics


class Commands(TyperGroup):
    """Says where the addresses come from that are missing."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # one without a message is a parameter that is missing
            if not error.message and getattr(error.param, "envvar", None):
                error.message = "`export $(make -s env)` sets it"
            raise


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, help=__doc__)
topics_app = typer.Typer(no_args_is_help=True, help="Create and check the topics.")
app.add_typer(topics_app, name="topics")
app.add_typer(dead_letter_commands.app, name="dlq")
app.add_typer(stock_commands.app, name="stock")
app.command("audit")(audit_command)
order_commands.register(app)


@app.command("migrate")
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
    """

    async def work() -> None:
        await bootstrap(admin_url, [service.schema for service in SERVICES], password)
        for service in SERVICES:
            dsn = role_dsn(admin_url, service.schema, password)
            for name in await migrate(dsn, service.schema, service.package):
                typer.echo(f"{service.schema}: ran {name}")
        typer.echo("all schemas are up to date")

    run(work(), database="ADMIN_DATABASE_URL", url=admin_url)


@topics_app.command("create")
def topics_create(
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    replication: Annotated[
        int,
        typer.Option(envvar="KAFKA_REPLICATION", help="Replicas of each partition.", min=1),
    ] = 1,
) -> None:
    """Create the topics that are missing."""

    async def work() -> None:
        connection = KafkaConnection(bootstrap_servers, prefix)
        for name in await create_topics(connection, replication=replication):
            typer.echo(f"created {name}")
        await verify_topics(connection, TOPICS)
        typer.echo("all topics are there")

    run(work(), brokers=bootstrap_servers)


@topics_app.command("check")
def topics_check(bootstrap_servers: Bootstrap, prefix: Prefix = "") -> None:
    """Say which topics are missing or have another number of partitions."""

    async def work() -> None:
        await verify_topics(KafkaConnection(bootstrap_servers, prefix), TOPICS, within_s=0)
        typer.echo("all topics are there")

    run(work(), brokers=bootstrap_servers)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
