"""Sagas of one transaction: events go in, rows and messages come out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from order_orchestrator.domain import Saga, public_status
from order_orchestrator.engine import transition
from order_orchestrator.events import Ignored, Refused, Transition
from order_orchestrator.metrics import IGNORED, ORDER_SECONDS, ORDERS, REFUSED, SENT_AGAIN
from order_orchestrator.records import UnreadableSagaError
from order_orchestrator.store import Store
from shared.contracts.base import message_id
from shared.contracts.topics import SAGA, TOPICS
from shared.pipeline import Committed, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from order_orchestrator.domain import Limits
    from order_orchestrator.events import Event, HistoryEntry, Result
    from order_orchestrator.store import SagaMemory
    from shared.contracts.base import Message
    from shared.database import Connection, Write

EVENTS: Final = "orders.events.v1"
COMMAND_TOPICS: Final[Mapping[str, str]] = {
    message.__name__: topic.name
    for topic in TOPICS.values()
    if topic.kind == "commands" and topic.writer == SAGA
    for message in topic.messages
}


@dataclass(frozen=True, slots=True)
class Sagas:
    """Opens sagas for a transaction: what handlers, timers and operators all begin with."""

    limits: Limits
    memory: SagaMemory

    def store(self, connection: Connection) -> Store:
        """The tables, on `connection`."""
        return Store(connection, self.memory)

    async def load(self, store: Store, order_ids: Iterable[str]) -> SagaChunk:
        """Lock these sagas and read the database's clock."""
        sagas, now = await store.lock_sagas(order_ids)
        return SagaChunk(sagas, now, self.limits, frozenset(store.unreadable))


class SagaChunk:
    """Applies events one by one in memory; `save` writes each saga once."""

    def __init__(
        self,
        sagas: Mapping[str, Saga],
        now: datetime,
        limits: Limits,
        unreadable: frozenset[str] = frozenset(),
    ) -> None:
        """Start from locked sagas by order id; `now` is the database's clock."""
        self._unreadable = unreadable
        self.now = now
        self.limits = limits
        self._loaded = dict(sagas)
        self._sagas = dict(sagas)
        self._histories: dict[str, list[HistoryEntry]] = {}
        self._outgoing: list[Outgoing] = []
        self._told: list[Saga] = []

    @property
    def loaded(self) -> Mapping[str, Saga]:
        """The sagas as they were locked, by order id."""
        return self._loaded

    def get(self, order_id: str) -> Saga | None:
        """The saga as it is by now.

        Raises `UnreadableSagaError` where its row can't be read. Handlers look at
        `store.unreadable` before they ask, so that the others of their chunk go on.
        """
        if order_id in self._unreadable:
            raise UnreadableSagaError(order_id, "set aside")
        return self._sagas.get(order_id)

    def apply(self, saga: Saga, event: Event, traceparent: str | None = None) -> Result:
        """Give `event` to `saga`. What it writes goes on with `traceparent`, or the order's own."""
        result = transition(saga, event, self.now, self.limits)
        match result:
            case Transition():
                self.add(result, traceparent)
            case Ignored():
                IGNORED.labels(result.reason).inc()
            case Refused():
                REFUSED.labels(result.reason).inc()
        return result

    def add(self, changed: Transition, traceparent: str | None = None) -> None:
        """Take a transition: a new saga's first, or what `apply` made."""
        saga = changed.saga
        order_id = saga.order.order_id
        context = traceparent or saga.order.traceparent or ""
        before = self._sagas.get(order_id)
        self._sagas[order_id] = saga
        self._histories.setdefault(order_id, []).append(changed.history)
        for command in changed.commands:
            self._outgoing.append(
                Outgoing(
                    COMMAND_TOPICS[command.type], order_id, command, message_id(command), context
                )
            )
        if changed.event is not None:
            self.say(order_id, changed.event, context)
        if saga.told is not None and (before is None or before.told is None):
            self._told.append(saga)
        if before is not None and before.sends and saga.sends > before.sends:
            SENT_AGAIN.inc()

    def say(self, order_id: str, event: Message, traceparent: str | None) -> None:
        """Publish `event` on the topic of order events."""
        self._outgoing.append(
            Outgoing(EVENTS, order_id, event, message_id(event), traceparent or "")
        )

    def save(self, store: Store) -> list[Outgoing | Write | Committed]:
        """What changed, what is to be published, and what to do once that is committed."""
        changed = [
            (order_id, self._sagas[order_id])
            for order_id in sorted(self._sagas)
            if self._sagas[order_id] is not self._loaded.get(order_id)
        ]
        new = [saga for order_id, saga in changed if order_id not in self._loaded]
        updated = [
            (self._loaded[order_id].version, saga)
            for order_id, saga in changed
            if order_id in self._loaded
        ]
        saved: list[Outgoing | Write | Committed] = [*self._outgoing]
        if new:
            saved.append(store.insert(new, self._histories))
        if updated:
            saved.append(store.update(updated, self._histories))
        if changed:
            after = partial(self._committed, store.memory, [saga for _, saga in changed])
            saved.append(Committed(after))
        return saved

    def _committed(self, memory: SagaMemory, changed: list[Saga]) -> None:
        memory.remember(changed)
        for saga in self._told:
            if saga.told is not None:
                status = public_status(saga)
                ORDERS.labels(status).inc()
                taken = saga.told.at - saga.order.accepted_at
                ORDER_SECONDS.labels(status).observe(taken.total_seconds())
