"""What must hold between the topics and the database: nothing waits, nothing was lost, and every
order has one outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import asyncpg

from shared.audit.consumed import check_consumed
from shared.audit.outcomes import Telling, check_outcomes, check_told, one_outcome
from shared.audit.report import Check, Moment, Report
from shared.contracts.topics import GROUPS, TOPICS
from shared.kafka.reading import standings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.kafka.connection import KafkaConnection

__all__ = ["CONSUMING_GROUPS", "audit_topics", "check_consumed", "check_lag", "check_outcomes"]

CONSUMING_GROUPS: Final = tuple(
    group
    for group, topics in GROUPS.items()
    if all(TOPICS[topic].kind != "dead_letters" for topic in topics)
)
"""Groups that obey messages. Who reads dead letters leaves no mark of each in an inbox."""


async def audit_topics(
    connection: KafkaConnection, dsn: str, *, groups: Iterable[str] = tuple(GROUPS)
) -> Report:
    """Checks lag and lost messages of `groups`, and the outcome of every order.

    `dsn` is the operator's. All of it holds at rest only. Every record of the topics is read, at
    some 70 µs each on a busy machine; what may be many lies in a temporary file, not in memory.
    Raises TopicError where a topic is missing, and the errors of broker and database where they
    can't be reached.
    """
    checks = []
    database = await asyncpg.connect(dsn, server_settings={"application_name": "audit"})
    try:
        for group in groups:
            checks.append(await check_lag(connection, group))
            if group in CONSUMING_GROUPS:
                checks.append(await check_consumed(connection, database, group))
        started_at = time.monotonic()
        telling = await Telling.read(connection)
        try:
            checks += [one_outcome(telling, started_at), await check_told(telling, database)]
        finally:
            telling.close()
    finally:
        await database.close()
    return Report(tuple(checks))


async def check_lag(connection: KafkaConnection, group: str) -> Check:
    """Invariant 9: the group has read and committed all that lies on its topics."""
    started_at = time.monotonic()
    found = await standings(connection, group, GROUPS[group])
    violations = [
        {
            "topic": connection.plain(partition.topic),
            "partition": partition.partition,
            "committed": standing.committed,
            "end": standing.end,
            "lag": standing.lag,
        }
        for partition, standing in found.items()
        if standing.lag
    ]
    return Check("lag_is_zero", group, 9, Moment.AT_REST, "consumer lag is 0").found(
        violations, started_at, looked_at=len(found)
    )
