"""All invariants at once, and whether the system has come to rest.

`shared.audit` knows how to check; here stands what there is to check: each service's own
invariants, those over several schemas (`sql/invariants.sql` of this package), and the topics.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import asyncpg

from orderctl.services import SERVICES
from shared.audit import Check, Moment, Report, Source, audit, audit_topics
from shared.audit.reading import standings
from shared.contracts.topics import GROUPS

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.kafka.connection import KafkaConnection

POLL_S: Final = 0.25
INVARIANTS: Final = "sql/invariants.sql"
REDIS: Final = Check(
    "redis_counters_equal_postgres",
    "redis",
    9,
    Moment.AT_REST,
    "the counters in Redis equal Postgres",
    nothing="no service keeps counters in Redis in this version",
)

_SAGAS_AT_WORK: Final = """
SELECT count(*) FROM orders.saga
WHERE stuck_since IS NULL AND (waiting OR pending_since IS NOT NULL)
"""


def sources() -> list[Source]:
    """The files of invariants: one a service, and the one over all schemas."""
    own = [
        Source(service.schema, service.package)
        for service in SERVICES
        if files(service.package).joinpath(INVARIANTS).is_file()
    ]
    return [*own, Source(None, "orderctl")]


async def audit_everything(
    dsn: str, kafka: KafkaConnection | None, *, only_always: bool = False
) -> Report:
    """Check every invariant, of the topics too where a broker is given.

    `dsn` is the operator's. With `only_always` those are left out that hold at rest alone, all of
    the topics' among them. Raises what `shared.audit` raises.
    """
    report = await audit(dsn, sources(), only_always=only_always)
    if not only_always:
        report += Report((REDIS,))
        if kafka is not None:
            report += await audit_topics(kafka, dsn)
    return report


def without_topics(why: str) -> Report:
    """What an audit at rest says of the topics where it can't look at them."""
    return Report(
        tuple(
            Check(name, "topics", number, Moment.AT_REST, text, error=why)
            for name, number, text in (
                ("orders_have_one_outcome", 6, "every accepted order has exactly one outcome"),
                ("consumed_messages_are_accounted_for", 8, "no consumed message was lost"),
                ("lag_is_zero", 9, "consumer lag is 0"),
            )
        )
    )


def while_at_work(report: Report, moving: str) -> Report:
    """The report without a verdict on what holds at rest alone: nothing of that can be told."""
    return Report(
        tuple(
            replace(check, violations=(), error=f"the system is at work: {moving}")
            if check.moment is Moment.AT_REST
            else check
            for check in report.checks
        )
    )


async def wait_until_at_rest(
    dsn: str,
    kafka: KafkaConnection | None,
    *,
    within_s: float,
    groups: Collection[str] = tuple(GROUPS),
) -> str:
    """Wait until nothing is on its way, `within_s` seconds at most; what still is, or "".

    An order that awaits its payment, or an operator, is at rest: nothing moves until somebody
    acts. Where not all services are there, `groups` are those whose messages have a reader. Raises
    the errors of database and broker.
    """
    deadline_s = time.monotonic() + within_s
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "audit"})
    try:
        while True:
            moving = await _moving_in_database(connection)
            if not moving and kafka is not None:
                # Twice: what was read between the two looks may have moved the database again.
                moving = await _moving_on_topics(kafka, groups) or await _moving_in_database(
                    connection
                )
            if not moving or time.monotonic() > deadline_s:
                return moving
            await asyncio.sleep(POLL_S)
    finally:
        await connection.close()


async def _moving_in_database(connection: asyncpg.Connection[asyncpg.Record]) -> str:
    for service in SERVICES:
        chunks = await connection.fetchval(
            f'SELECT count(*) FROM "{service.schema}".outbox'  # noqa: S608 - our own names
            " WHERE published_at IS NULL"
        )
        if chunks:
            return f"{chunks} chunks of {service.name} are unpublished"
    sagas = await connection.fetchval(_SAGAS_AT_WORK)
    return f"{sagas} orders wait for a reply" if sagas else ""


async def _moving_on_topics(kafka: KafkaConnection, groups: Collection[str]) -> str:
    for group in groups:
        found = await standings(kafka, group, GROUPS[group])
        lag = sum(one.lag for one in found.values())
        if lag:
            return f"{lag} messages wait for {group}"
    return ""
