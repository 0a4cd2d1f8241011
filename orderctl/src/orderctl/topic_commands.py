"""`orderctl topics create` and `check`."""

from __future__ import annotations

from typing import Annotated

import typer

from orderctl.options import Bootstrap, Prefix
from orderctl.running import run
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.kafka.topics import create_topics, verify_topics


def create(
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    replication: Annotated[
        int,
        typer.Option(envvar="KAFKA_REPLICATION", help="Replicas of each partition.", min=1),
    ] = 1,
) -> None:
    """Create the topics that are missing.

    Example: orderctl topics create --replication 3
    """

    async def work() -> None:
        connection = KafkaConnection(bootstrap_servers, prefix)
        for name in await create_topics(connection, replication=replication):
            typer.echo(f"created {name}")
        await verify_topics(connection, TOPICS)
        typer.echo("all topics are there")

    run(work(), brokers=bootstrap_servers)


def check(bootstrap_servers: Bootstrap, prefix: Prefix = "") -> None:
    """Say which topics are missing or have another number of partitions.

    Example: orderctl topics check --prefix staging.
    """

    async def work() -> None:
        await verify_topics(KafkaConnection(bootstrap_servers, prefix), TOPICS, within_s=0)
        typer.echo("all topics are there")

    run(work(), brokers=bootstrap_servers)
