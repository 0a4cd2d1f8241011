"""How the system came out of a load test: at rest, and its invariants."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bench.load.record import Held
from orderctl.auditing import audit_everything
from orderctl.draining import wait_until_at_rest
from shared.reconciliation import GatewayAccess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.audit import Report
    from shared.kafka.connection import KafkaConnection

REST_WITHIN_S: Final = 180.0
"""A backlog that was left by a thousand users is still worked off."""


async def judged(
    environment: Mapping[str, str], connection: KafkaConnection
) -> tuple[float, list[Held]]:
    """Seconds until the system was at rest, and whether it came to rest and all invariants hold.

    Raises the errors of database and broker.
    """
    dsn, started_s = environment["DATABASE_URL"], time.monotonic()
    found = await wait_until_at_rest(dsn, connection, within_s=REST_WITHIN_S)
    rest_s = time.monotonic() - started_s
    rest = Held(text="the system comes to rest", holds=not found.at_work, detail=found.at_work)
    report = await audit_everything(
        dsn, connection, environment["REDIS_URL"], gateway=_gateway(environment)
    )
    return rest_s, [rest, *of_report(report)]


def of_report(report: Report) -> list[Held]:
    """One for each check; what could not be looked at does not hold."""
    return [
        Held(
            text=f"{check.place}: {check.text}",
            holds=check.ok,
            detail=check.error or (str(dict(check.violations[0])) if check.violations else ""),
        )
        for check in report.checks
    ]


def _gateway(environment: Mapping[str, str]) -> GatewayAccess | None:
    url = environment.get("GATEWAY_URL")
    return GatewayAccess(url, environment["GATEWAY_API_KEY"]) if url else None
