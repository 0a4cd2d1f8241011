"""Invariant 5 over the gateway: its own book says the same of our money as ours."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import asyncpg

from shared.audit.report import Check, Moment
from shared.reconciliation import GatewayBook, GatewayError, reconcile
from shared.reconciliation.describing import RUNBOOK, here, there

if TYPE_CHECKING:
    from shared.reconciliation import GatewayAccess, Reconciliation

CHECK: Final = Check(
    "books_agree_with_gateway",
    "gateway",
    5,
    Moment.AT_REST,
    "the gateway's own book agrees with ours, line by line",
)
NO_GATEWAY: Final = "GATEWAY_URL is not set, and payment has asked a gateway"

_HAS_ASKED: Final = "SELECT EXISTS (SELECT 1 FROM payment.gateway_call)"


async def check_gateway(dsn: str, access: GatewayAccess | None) -> Check:
    """Compare all of both books. `dsn` is the operator's; `access` is None where no gateway is
    known of, which is well where none was ever asked.

    Raises OSError and asyncpg's errors where the database can't be reached; where it refuses a
    query, or the gateway can't be asked, the check says so. It reads a million lines, so it is
    nothing for passes.
    """
    started_at = time.monotonic()
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "audit"})
    try:
        if access is None:
            if await connection.fetchval(_HAS_ASKED):
                return CHECK.unchecked(NO_GATEWAY)
            return CHECK.found((), started_at, looked_at=0)
        async with GatewayBook(access) as book:
            return _check(await reconcile(connection, book), started_at)
    except GatewayError as error:
        return CHECK.unchecked(f"{error}; {RUNBOOK}")
    except asyncpg.PostgresError as error:
        return CHECK.unchecked(f"{type(error).__name__}: {error}")
    finally:
        await connection.close()


def _check(found: Reconciliation, started_at: float) -> Check:
    rows = [
        {
            "order_id": one.order_id,
            "difference": one.verdict.value,
            "key": one.key,
            "here": here(one),
            "there": there(one),
        }
        for one in found.differences
    ]
    return CHECK.found(rows, started_at, looked_at=found.our_lines + found.their_lines)
