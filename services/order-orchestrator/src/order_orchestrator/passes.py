"""One event for many sagas, without a message: what timers and admission do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database import faults
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from order_orchestrator.chunk import Sagas
    from order_orchestrator.events import Event
    from order_orchestrator.store import Store
    from shared.database import Connection, Write
    from shared.pipeline import Committed, Outgoing
    from shared.pipeline.work import Work

_log = get_logger(__name__)

_Written = tuple[int, "Sequence[Outgoing | Write | Committed]"]


class Pass:
    """Gives an event to all sagas that are due for it, in one transaction.

    Where one of them is at fault each goes alone, and that one is set aside for an operator: it
    would come first again in every later pass, and no other would ever have its turn.
    """

    def __init__(self, work: Work, sagas: Sagas) -> None:
        """Wire it."""
        self._work = work
        self._sagas = sagas

    async def run(self, find: Callable[[Store], Awaitable[list[str]]], event: Event) -> int:
        """Give `event` to the sagas that `find` locks; returns how many there were.

        Raises the infrastructure's faults.
        """
        found: list[str] = []

        async def give(connection: Connection) -> _Written:
            found[:] = await find(self._sagas.store(connection))
            return await self._give(connection, found, event)

        try:
            return await self._work.run(give)
        except Exception as error:
            if not (found and faults.is_message_fault(error)):
                raise
        for order_id in found:
            await self._alone(order_id, event)
        return len(found)

    async def _give(
        self, connection: Connection, order_ids: Sequence[str], event: Event
    ) -> _Written:
        if not order_ids:
            return 0, ()
        store = self._sagas.store(connection)
        chunk = await self._sagas.load(store, order_ids)
        for saga in chunk.loaded.values():
            chunk.apply(saga, event)
        return len(order_ids), chunk.save(store)

    async def _alone(self, order_id: str, event: Event) -> None:
        async def set_aside(connection: Connection) -> _Written:
            await self._sagas.store(connection).set_aside(order_id, why)
            return 1, ()

        try:
            await self._work.run(lambda connection: self._give(connection, [order_id], event))
        except Exception as error:
            if not faults.is_message_fault(error):
                raise
            why = f"{type(event).__name__} failed with {type(error).__name__}: a bug or bad data"
            _log.error("saga_failed", order_id=order_id, error=type(error).__name__, exc_info=error)
        else:
            return
        await self._work.run(set_aside)
