"""`orderctl audit`: every invariant over all schemas and topics, once or again and again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer
from aiokafka.errors import KafkaConnectionError, KafkaError

from orderctl.audit_text import details, invariants_table
from orderctl.auditing import audit_everything, while_at_work, without_topics
from orderctl.auditor import Auditor
from orderctl.draining import wait_until_at_rest
from orderctl.gateway_access import access_to
from orderctl.options import Bootstrap, Database, GatewayUrl, Prefix, Redis, duration_s
from orderctl.running import USAGE, fail, note, run
from orderctl.terminal import console, visible
from shared.kafka.connection import KafkaConnection
from shared.kafka.topics import TopicError
from shared.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from shared.audit import Report
    from shared.reconciliation import GatewayAccess

VIOLATED: Final = 1
UNKNOWN: Final = 2
"""Exit code where nothing is violated and something could not be looked at."""
NO_BROKER: Final = "KAFKA_BOOTSTRAP_SERVERS is not set"


def _checked(given: str) -> str:
    try:
        if given:
            duration_s(given)
    except ValueError as error:
        fail(str(error), USAGE)
    return given


def audit_command(
    database_url: Database,
    bootstrap_servers: Bootstrap = "",
    prefix: Prefix = "",
    redis_url: Redis = "",
    gateway_url: GatewayUrl = "",
    within: Annotated[
        float, typer.Option(help="Seconds to wait for the system to come to rest.", min=0)
    ] = 30.0,
    live: Annotated[
        bool,
        typer.Option("--live", "--always", help="Only what holds during traffic, without waiting."),
    ] = False,
    every: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            callback=_checked,
            help="Go on without end, as --live, with a pass every 60s, 5m or 1h; a pass looks at"
            " what moved and at a part of all orders.",
        ),
    ] = "",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="ADMIN_PORT",
            help="With --every: the port of /metrics and /readyz.",
            min=0,
            max=65_535,
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(envvar="ADMIN_HOST", help="With --every: the address of that port.")
    ] = "127.0.0.1",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check every invariant over all schemas, topics, counters and the gateway. Writes nothing.

    Waits until the system rests, or until the time is up. Exit code 0: all hold; 1: one is
    violated; 2: none is, as far as could be looked at, but something could not be. A database that
    takes connections and doesn't answer within 10 s ends it.

    Example: orderctl audit --live --json
    """
    if every:
        _go_on(database_url, every, metrics_host, metrics_port)
        return
    kafka = KafkaConnection(bootstrap_servers, prefix) if bootstrap_servers else None
    work = (
        audit_everything(database_url, None, only_always=True)
        if live
        else _at_rest(database_url, kafka, redis_url, access_to(gateway_url), within_s=within)
    )
    report = run(work, url=database_url, brokers=bootstrap_servers, code=UNKNOWN)
    if as_json:
        typer.echo(report.to_json())
    else:
        _show(report)
    sys.exit(VIOLATED if report.violated else 0 if report.ok else UNKNOWN)


async def _at_rest(
    dsn: str,
    kafka: KafkaConnection | None,
    redis_url: str,
    gateway: GatewayAccess | None,
    *,
    within_s: float,
) -> Report:
    """Everything, once nothing moves any more. What can't be reached is told as not checked."""
    why = "" if kafka else NO_BROKER
    try:
        found = await wait_until_at_rest(dsn, kafka, within_s=within_s)
    except (KafkaError, TopicError) as error:
        why = _no_topics(kafka, error)
        found = await wait_until_at_rest(dsn, None, within_s=within_s)
    if moving := found.at_work:
        note(f"after {within_s:g} s the system is still at work: {moving}")
        return while_at_work(await audit_everything(dsn, None) + without_topics(""), moving)
    if not why:
        try:
            return await audit_everything(dsn, kafka, redis_url, gateway=gateway)
        except (KafkaError, TopicError) as error:
            why = _no_topics(kafka, error)
    note(f"the topics were not looked at: {why}")
    report = await audit_everything(dsn, None, redis_url, gateway=gateway)
    return report + without_topics(why)


def _no_topics(kafka: KafkaConnection | None, error: Exception) -> str:
    if isinstance(error, KafkaConnectionError) and kafka is not None:
        return f"no Kafka broker answers at {kafka.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS)"
    return " ".join(str(error).split())


def _go_on(dsn: str, every: str, host: str, port: int | None) -> None:
    every_s = duration_s(every)
    configure_logs("INFO", service="audit")
    # It outlives a database that falls silent, and tells of it in its metrics.
    run(Auditor(dsn, every_s=every_s).run(host, port), url=dsn, code=UNKNOWN, watched=False)


def _show(report: Report) -> None:
    console().print(invariants_table(report))
    for line in details(report):
        typer.echo(visible(line))
