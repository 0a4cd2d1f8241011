"""`orderctl audit`: every invariant over all schemas and topics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orderctl.auditing import audit_everything, wait_until_at_rest
from orderctl.running import note, run
from orderctl.terminal import visible
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from shared.audit import Report


def audit_command(
    database_url: Annotated[
        str, typer.Option(envvar="DATABASE_URL", help="The operator's address of the database.")
    ],
    bootstrap_servers: Annotated[
        str,
        typer.Option(
            envvar="KAFKA_BOOTSTRAP_SERVERS",
            help="Addresses of the brokers; without them the topics are not looked at.",
        ),
    ] = "",
    prefix: Annotated[
        str, typer.Option(envvar="KAFKA_TOPIC_PREFIX", help="Prefix of this deployment's topics.")
    ] = "",
    within: Annotated[
        float, typer.Option(help="Seconds to wait for the system to come to rest.", min=0)
    ] = 30.0,
    always: Annotated[
        bool, typer.Option("--always", help="Only what holds during traffic too, without waiting.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check every invariant over all schemas and topics; exit code 1 on a violation.

    Waits until the system rests, or until the time is up. Writes nothing.
    """
    kafka = KafkaConnection(bootstrap_servers, prefix) if bootstrap_servers else None

    async def work() -> Report:
        if not always:
            moving = await wait_until_at_rest(database_url, kafka, within_s=within)
            if moving:
                note(f"after {within:g} s the system is still at work: {moving}")
        return await audit_everything(database_url, kafka, only_always=always)

    report = run(work(), url=database_url, brokers=bootstrap_servers)
    typer.echo(report.to_json() if as_json else visible(report.table(), keep="\n"))
    if kafka is None and not always:
        note("KAFKA_BOOTSTRAP_SERVERS is not set: the topics were not looked at")
    sys.exit(0 if report.ok else 1)
