"""What audits cost beside past orders: `.venv/bin/python loadtest/audit_cost.py 200000`.

On a Postgres of its own. Prints how long each check takes in a pass of the auditor, and in a whole
live audit.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from local_stack import Stack, Step
from orderctl.auditing import audit_everything
from orderctl.auditor import Auditor

if TYPE_CHECKING:
    from shared.audit import Report

PAST_ORDERS = Path(__file__).with_name("past_orders.sql")
PASSES = 3
SHOWN = 12


async def write_past_orders(dsn: str, orders: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('audit.orders', $1, true)", str(orders))
            await connection.execute(PAST_ORDERS.read_text())
            # told long ago: no pass takes them for orders that have just moved
            await connection.execute(
                "UPDATE orders.outbox SET published_at = now() - interval '1 hour'"
            )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def show(what: str, report: Report, took_s: float) -> None:
    if not report.ok:
        sys.exit(f"the past orders are not sound:\n{report.table()}")
    print(f"{what}: {took_s:.1f} s, {len(report.checks)} checks")
    for check in sorted(report.checks, key=lambda check: -check.took_s)[:SHOWN]:
        print(f"  {check.took_s:6.2f} s  {check.place}/{check.name}")


async def measure(admin_dsn: str, dsn: str, orders: int) -> None:
    await write_past_orders(admin_dsn, orders)
    print(f"{orders:,} past orders, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    auditor = Auditor(dsn, every_s=60)
    for number in range(PASSES):
        started_s = time.monotonic()
        report = await auditor.pass_once()
        if number == PASSES - 1:
            show(f"pass {PASSES}", report, time.monotonic() - started_s)
    started_s = time.monotonic()
    report = await audit_everything(dsn, None, only_always=True)
    show("live audit of all", report, time.monotonic() - started_s)


def main() -> None:
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(
            Path(folder) / "state",
            infrastructure=("postgres",),
            steps=(Step("migrate", "orderctl.main", ("migrate",)),),
            owner_pid=os.getpid(),
        )
        try:
            environment = stack.up()
            asyncio.run(measure(environment.admin_database_url, environment.database_url, orders))
        finally:
            stack.wipe()


if __name__ == "__main__":
    main()
