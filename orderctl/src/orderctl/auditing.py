"""All invariants at once.

`shared.audit` knows how to check; here stands what there is to check: each service's own
invariants, those over several schemas (`sql/invariants.sql` of this package), and the topics.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from orderctl.services import SERVICES
from shared.audit import Check, Moment, Report, Source, audit, audit_topics
from shared.audit.counters import CHECK, check_counters
from shared.audit.gateway import check_gateway

if TYPE_CHECKING:
    from shared.kafka.connection import KafkaConnection
    from shared.reconciliation import GatewayAccess

INVARIANTS: Final = "sql/invariants.sql"
NO_REDIS: Final = "REDIS_URL is not set"


def sources() -> list[Source]:
    """The files of invariants: one a service, and the one over all schemas."""
    own = [
        Source(service.schema, service.package)
        for service in SERVICES
        if files(service.package).joinpath(INVARIANTS).is_file()
    ]
    return [*own, Source(None, "orderctl")]


async def audit_everything(
    dsn: str,
    kafka: KafkaConnection | None,
    redis_url: str = "",
    *,
    gateway: GatewayAccess | None = None,
    only_always: bool = False,
) -> Report:
    """Check every invariant, of the topics too where a broker is given.

    `dsn` is the operator's. Without `redis_url` the counters there are told as not checked, and
    without `gateway` its book is, where payment has ever asked one. With `only_always` those are
    left out that hold at rest alone, all of the topics' among them. Raises
    what `shared.audit` raises.
    """
    report = await audit(dsn, sources(), only_always=only_always)
    if not only_always:
        counters = CHECK.unchecked(NO_REDIS)
        if redis_url:
            counters = await check_counters(dsn, redis_url, sources())
        report += Report((counters, await check_gateway(dsn, gateway)))
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
