"""Counts what is open at the gateway, for the gauges, and forgets old callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from payment.metrics import OLDEST_OPEN, OPEN_CALLS, WATCH_OVERDUE
from payment.store import Store
from shared.contracts.payment import CallState
from shared.database import Queries
from shared.pipeline.sweeper import Swept
from shared.telemetry.logs import Seldom

if TYPE_CHECKING:
    from shared.database import Pool

CENSUS_INTERVAL_S: Final = 5.0
JANITOR_INTERVAL_S: Final = 60.0
KEEP_EVENTS_S: Final = 7 * 86_400.0
"""Longer than any gateway repeats a callback; its signature is refused long before."""
EVENTS_AT_ONCE: Final = 1_000

_seldom = Seldom(__name__)

queries: Final = Queries("payment", "sql/statistics.sql")

_OPEN: Final = (CallState.INTENDED, CallState.UNKNOWN, CallState.ABSENT, CallState.WAITING)
_COUNTED: Final = (*_OPEN, CallState.WATCHED, CallState.QUARANTINED)


class Census:
    """One count after the other."""

    def __init__(self, pool: Pool, *, has_gateway: bool = True) -> None:
        """Read through `pool`."""
        self._pool = pool
        self._has_gateway = has_gateway

    async def run_once(self) -> None:
        """Set the gauges."""
        async with self._pool.acquire() as connection:
            rows = await queries.count_calls.rows(connection)
        counts = {row["state"]: row["calls"] for row in rows}
        ages_s = {row["state"]: max(row["oldest_s"] or 0.0, 0.0) for row in rows}
        for state in _COUNTED:
            OPEN_CALLS.labels(state).set(counts.get(state, 0))
        OLDEST_OPEN.set(max([ages_s.get(state, 0.0) for state in _OPEN]))
        still_open = sum([counts.get(state, 0) for state in _OPEN])
        if still_open and not self._has_gateway:
            _seldom.warning("calls_wait_for_a_gateway", calls=still_open, mend="set GATEWAY_URL")
        WATCH_OVERDUE.set(ages_s.get(CallState.WATCHED, 0.0))

    async def forget(self) -> Swept:
        """Delete a batch of callbacks that can't come again."""
        async with self._pool.acquire() as connection:
            deleted = await Store(connection).forget_events(KEEP_EVENTS_S, EVENTS_AT_ONCE)
        return Swept(deleted, more=deleted == EVENTS_AT_ONCE)
