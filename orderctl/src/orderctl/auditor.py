"""Audits without end: a pass every so often over what holds at every moment.

A pass must not hurt the system that it watches, however many orders there are. So what can be
judged order by order is looked at for the orders that have just moved and for a slice of all
orders, the next one with each pass; after a round every order was looked at. Orders that violate
something are looked at in every pass, so that it is known when they no longer do. What is left
takes as long as it takes, and the pause after a pass is so long that passes take a tenth of the
time at most. What a pass costs is measured in `docs/invariants.md`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from orderctl import metrics
from orderctl.answering import SilentError, while_it_answers
from orderctl.auditing import sources
from shared.admin import admin_app
from shared.audit import RUNBOOK, Moment, Orders, Report, check_pass
from shared.audit.invariants import load
from shared.database import Queries
from shared.serving import HttpServer
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.audit import Check

ORDERS_PER_SLICE: Final = 20_000
MOVED_ORDERS: Final = 10_000
SHARE: Final = 0.1
"""Of the time, for passes."""
OVERLAP_S: Final = 60.0
"""What a pass looks back beyond the start of the last one: an event is marked after it is told."""
SELECTION_TIMEOUT_S: Final = 30
EXAMPLES: Final = 5
# What may stand in a log: ids of orders and of what is for sale, no users.
_LOGGED: Final = ("order_id", "product_id", "coupon_id", "chunk_id", "role")

_queries = Queries("orderctl", "sql/auditor.sql")
_log = get_logger(__name__)


class Auditor:
    """Passes over the invariants, one after the other, with metrics and a log."""

    def __init__(
        self, dsn: str, *, every_s: float, orders_per_slice: int = ORDERS_PER_SLICE
    ) -> None:
        """`dsn` is the operator's; passes begin every `every_s` seconds, or less often."""
        self._dsn = dsn
        self._every_s = every_s
        self._orders_per_slice = orders_per_slice
        self._after = ""
        self._round_is_whole = True
        self._last_started_s: float | None = None
        self._counts: dict[tuple[str, str], int] = {}
        self._known: dict[tuple[str, str], set[str]] = {}
        self._many: dict[tuple[str, str], bool] = {}
        self._problem: str | None = None
        for number in looked_at():
            metrics.VIOLATIONS.labels(str(number))

    async def run(self, host: str, port: int | None) -> None:
        """Pass after pass until SIGTERM or SIGINT; the metrics are served where a port is given.

        Raises OSError where the port is taken.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        passes = asyncio.create_task(self._repeat())
        stopping = asyncio.create_task(stop.wait())
        watched: list[asyncio.Task[Any]] = [passes, stopping]
        if port is not None:
            server = HttpServer(admin_app({"audit": self.problem}), host, port)
            watched.append(asyncio.create_task(server.serve_until(stop)))
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stop.set()
            for task in (passes, stopping):
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)

    async def problem(self) -> str | None:
        """Why the last pass could not look at everything; None where it could."""
        return self._problem

    async def pass_once(self) -> Report:
        """Look at the invariants, tell metrics and log; raises what `check_pass` raises."""
        started_s = time.monotonic()
        orders = await self._select(started_s)
        report = await check_pass(self._dsn, orders, sources())
        self._last_started_s = started_s
        self._after = orders.up_to or ""
        self._tell(report)
        metrics.DURATION.set(time.monotonic() - started_s)
        metrics.FINISHED.set_to_current_time()
        self._count_round(report, last=orders.up_to is None)
        return report

    def _count_round(self, report: Report, *, last: bool) -> None:
        """A round counts as made where every check of its passes, to the last slice, was made."""
        self._round_is_whole = self._round_is_whole and not report.unchecked
        if last:
            if self._round_is_whole:
                metrics.ROUND.set_to_current_time()
            self._round_is_whole = True

    async def _repeat(self) -> None:
        while True:
            started_s = time.monotonic()
            try:
                await while_it_answers(self._dsn, self.pass_once())
            except (
                OSError, asyncpg.PostgresError, asyncpg.InterfaceError, SilentError,
            ) as error:  # fmt: skip
                metrics.FAILURES.inc()
                if self._problem != type(error).__name__:
                    _log.warning("audit_failed", error=type(error).__name__)
                self._problem = type(error).__name__
            took_s = time.monotonic() - started_s
            await asyncio.sleep(pause_s(self._every_s, took_s))

    async def _select(self, started_s: float) -> Orders:
        last_s = started_s if self._last_started_s is None else self._last_started_s
        connection = await asyncpg.connect(
            self._dsn,
            server_settings={
                "application_name": "audit",
                "statement_timeout": f"{SELECTION_TIMEOUT_S}s",
            },
        )
        try:
            up_to = await _queries.last_of_slice.value(
                connection, after=self._after, orders=self._orders_per_slice
            )
            moved = await _queries.moved_orders.rows(
                connection, since_s=started_s - last_s + OVERLAP_S, orders=MOVED_ORDERS
            )
        finally:
            await connection.close()
        named = {row["order_id"] for row in moved if row["order_id"]}
        return Orders(self._after, up_to, sorted(named.union(*self._known.values())))

    def _tell(self, report: Report) -> None:
        unchecked = report.unchecked
        metrics.UNCHECKED.set(len(unchecked))
        names = ", ".join(f"{check.place}/{check.name}" for check in unchecked)
        problem = f"not checked: {names}" if names else None
        if problem and problem != self._problem:
            _log.warning("audit_incomplete", checks=names, error=unchecked[0].error[:200])
        self._problem = problem
        for check in report.checks:
            if not check.error:
                self._tell_of(check)
        for number in {check.invariant for check in report.checks}:
            found = [
                count
                for check in report.checks
                if check.invariant == number
                for count in [self._counts.get((check.place, check.name), 0)]
            ]
            metrics.VIOLATIONS.labels(str(number)).set(sum(found))

    def _tell_of(self, check: Check) -> None:
        """One line for what is new since the last pass, and one when all of it is gone."""
        key = check.place, check.name
        known = self._known.get(key, set())
        found = {_subject(row): row for row in check.violations}
        new = [row for subject, row in found.items() if subject not in known]
        self._counts[key] = len(check.violations)
        # Of very many each pass lists others: they were told of as many.
        told, self._many[key] = self._many.get(key, False) and check.more, check.more
        if new and not told:
            _log.error(
                "invariant_violated",
                invariant=check.invariant,
                check=check.name,
                place=check.place,
                new=len(new),
                more=check.more,
                examples=[_example(row) for row in new[:EXAMPLES]],
                runbook=RUNBOOK,
            )
        elif known and not found:
            _log.info(
                "invariant_holds_again",
                invariant=check.invariant,
                check=check.name,
                place=check.place,
            )
        self._known[key] = set(found)


def looked_at() -> set[int]:
    """The invariants that passes look at, if only in part: of others there is no number."""
    return {
        one.number
        for package, resource in (
            ("shared", "sql/invariants.sql"),
            *((source.package, source.resource) for source in sources()),
        )
        for one in load(package, resource)
        if one.moment is Moment.ALWAYS and not one.left_out
    }


def pause_s(every_s: float, took_s: float) -> float:
    """How long to wait after a pass that took `took_s`, so that the next is due or affordable."""
    return max(every_s - took_s, took_s * (1 - SHARE) / SHARE)


def _subject(row: Mapping[str, Any]) -> str:
    """What a row is about: its first column, as every query has it; an order's where by order."""
    return str(next(iter(row.values())))


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _LOGGED if row.get(name) is not None}
