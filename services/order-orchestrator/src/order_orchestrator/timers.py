"""What the clock causes: commands sent again, orders given up, parked commands expired."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from order_orchestrator.domain import SagaState
from order_orchestrator.events import Refused, TimerFired
from order_orchestrator.handlers import give_parked, read_parked, refused_command
from order_orchestrator.metrics import ACTIVE, STUCK
from order_orchestrator.passes import Pass
from order_orchestrator.store import queries
from shared.contracts.refusals import CommandRefusal
from shared.pipeline.sweeper import Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from order_orchestrator.chunk import Sagas
    from order_orchestrator.horizon import ReadHorizon
    from shared.database import Connection, Pool, Write
    from shared.pipeline import Committed, Outgoing
    from shared.pipeline.work import Work

SAGAS_AT_ONCE = 200
PARKED_AT_ONCE = 200
RACE_S = 60.0
"""Longer than a transaction lasts: what was parked earlier than that was seen by the last pass."""


class Timers:
    """Fires the timers that are due, each once, whichever instance comes first."""

    def __init__(
        self, work: Work, sagas: Sagas, replies: ReadHorizon, requests: ReadHorizon
    ) -> None:
        """The horizons say up to when replies and users' commands have been read."""
        self._pass = Pass(work, sagas)
        self._replies = replies
        self._requests = requests

    async def run_once(self) -> Swept:
        """Fire a bounded number of timers."""
        event = TimerFired(self._replies.read_up_to, self._requests.read_up_to)
        fired = await self._pass.run(lambda store: store.due(SAGAS_AT_ONCE), event)
        return Swept(fired, more=fired == SAGAS_AT_ONCE)


class ParkedCommands:
    """Commands that came before their order: given to it, or refused once they waited too long."""

    def __init__(self, work: Work, sagas: Sagas, *, keep_s: float) -> None:
        """`keep_s` is how long a command waits for its order, in seconds."""
        self._work = work
        self._sagas = sagas
        self._keep_s = keep_s
        self._looked_at_s: float | None = None

    async def run_once(self) -> Swept:
        """One bounded pass. The first looks at all that is parked, later ones at what came since,
        however long ago the last one was."""
        started_s = time.monotonic()
        handled = await self._work.run(self._give)
        more = handled >= PARKED_AT_ONCE
        if not more:
            self._looked_at_s = started_s
        return Swept(handled, more=more)

    async def _give(
        self, connection: Connection
    ) -> tuple[int, Sequence[Outgoing | Write | Committed]]:
        store = self._sagas.store(connection)
        since_s = self._keep_s
        if self._looked_at_s is not None:
            since_s = time.monotonic() - self._looked_at_s + RACE_S
        known = await store.parked_for_known_orders(since_s, PARKED_AT_ONCE)
        chunk = await self._sagas.load(store, known)
        taken = await store.unpark(chunk.loaded) if chunk.loaded else []
        for row in taken:
            give_parked(chunk, row.order_id, read_parked(row), row.traceparent)
        expired = await store.expire_parked(self._keep_s, PARKED_AT_ONCE)
        unknown = Refused(
            CommandRefusal.UNKNOWN_ORDER,
            f"no PlaceOrder came within {self._keep_s / 3600:.0f} hours",
        )
        for row in expired:
            answer = refused_command(read_parked(row), unknown)
            chunk.say(row.order_id, answer, row.traceparent)
        return len(taken) + len(expired), chunk.save(store)


class Census:
    """Counts the sagas under way, for the gauges."""

    def __init__(self, pool: Pool) -> None:
        """Read through `pool`."""
        self._pool = pool

    async def run_once(self) -> None:
        """Set the gauges."""
        async with self._pool.acquire() as connection:
            rows = await queries.count_states.rows(connection)
            STUCK.set(await queries.count_stuck.value(connection))
        counts = {row["state"]: row["sagas"] for row in rows}
        for state in SagaState:
            ACTIVE.labels(state).set(counts.get(state, 0))
