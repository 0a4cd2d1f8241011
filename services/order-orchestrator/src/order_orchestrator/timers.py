"""What the clock causes: commands sent again, orders given up, parked commands expired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from order_orchestrator.domain import SagaState
from order_orchestrator.events import Refused, TimerFired
from order_orchestrator.handlers import give_parked, read_parked, refused_command
from order_orchestrator.metrics import ACTIVE, STUCK
from order_orchestrator.store import queries
from shared.contracts.refusals import CommandRefusal
from shared.pipeline.sweeper import Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from order_orchestrator.chunk import Sagas
    from order_orchestrator.horizon import ReadHorizon
    from shared.database import Connection, Pool
    from shared.pipeline import Committed, Outgoing
    from shared.pipeline.work import Work

SAGAS_AT_ONCE = 200
PARKED_AT_ONCE = 200


class Timers:
    """Fires the timers that are due, each once, whichever instance comes first."""

    def __init__(
        self, work: Work, sagas: Sagas, replies: ReadHorizon, requests: ReadHorizon
    ) -> None:
        """The horizons say up to when replies and users' commands have been read."""
        self._work = work
        self._sagas = sagas
        self._replies = replies
        self._requests = requests

    async def run_once(self) -> Swept:
        """Fire a bounded number of timers."""
        event = TimerFired(self._replies.read_up_to, self._requests.read_up_to)

        async def fire(connection: Connection) -> tuple[int, Sequence[Outgoing | Committed]]:
            store = self._sagas.store(connection)
            due = await store.due(SAGAS_AT_ONCE)
            if not due:
                return 0, ()
            chunk = await self._sagas.load(store, due)
            for saga in chunk.loaded.values():
                chunk.apply(saga, event)
            return len(due), await chunk.save(store)

        fired = await self._work.run(fire)
        return Swept(fired, more=fired == SAGAS_AT_ONCE)


class ParkedCommands:
    """Commands that came before their order: given to it, or refused once they waited too long."""

    def __init__(self, work: Work, sagas: Sagas, *, keep_s: float) -> None:
        """`keep_s` is how long a command waits for its order, in seconds."""
        self._work = work
        self._sagas = sagas
        self._keep_s = keep_s

    async def run_once(self) -> Swept:
        """One bounded pass."""
        handled = await self._work.run(self._pass)
        return Swept(handled, more=handled >= PARKED_AT_ONCE)

    async def _pass(self, connection: Connection) -> tuple[int, Sequence[Outgoing | Committed]]:
        store = self._sagas.store(connection)
        chunk = await self._sagas.load(store, await store.parked_for_known_orders(PARKED_AT_ONCE))
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
        return len(taken) + len(expired), await chunk.save(store)


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
