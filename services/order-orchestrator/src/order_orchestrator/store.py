"""The orchestrator's tables: one typed method for each named query."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import to_json

from order_orchestrator.domain import ENDED, Saga
from order_orchestrator.records import (
    UnreadableSagaError,
    from_record,
    placed_columns,
    progress_columns,
)
from order_orchestrator.timing import waits_for_reply
from shared.database import Queries
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    import asyncpg

    from order_orchestrator.events import HistoryEntry
    from shared.contracts.base import Message
    from shared.database import Connection, Write

_log = get_logger(__name__)
queries = Queries("order_orchestrator", "sql/queries.sql")

_PLAIN = (
    "state", "version", "timer_at", "stuck_since", "stuck_why", "told_version", "told_at",
)  # fmt: skip

Histories: TypeAlias = "Mapping[str, Sequence[HistoryEntry]]"
"""What happened to sagas since they were stored last, oldest first, by order id."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A command that waits, or waited, for its order."""

    order_id: str
    command_type: str
    body: str
    traceparent: str


class SagaMemory:
    """Sagas as they were last committed by this process, by order.

    A version is committed once (see `save_sagas`), so a saga that is remembered under the
    version of the locked row is that row, unless it was set aside. Anything else is read.
    """

    def __init__(self, sagas: int) -> None:
        """Remember at most `sagas`; the one written longest ago goes first."""
        self._limit = sagas
        self._sagas: dict[str, Saga] = {}

    def get(self, order_id: str, version: int, *, stuck: bool) -> Saga | None:
        """The saga, if this is the version that is remembered, and nobody set it aside since."""
        saga = self._sagas.get(order_id)
        if saga is None or saga.version != version or (saga.stuck is not None) != stuck:
            return None
        return saga

    def remember(self, sagas: Iterable[Saga]) -> None:
        """Take sagas whose transaction is committed."""
        for saga in sagas:
            order_id = saga.order.order_id
            self._sagas.pop(order_id, None)
            if saga.state not in ENDED:
                self._sagas[order_id] = saga
        while len(self._sagas) > self._limit:
            del self._sagas[next(iter(self._sagas))]


class Store:
    """Loads and saves sagas on one connection, inside the caller's transaction."""

    def __init__(self, connection: Connection, memory: SagaMemory) -> None:
        """Work on `connection`."""
        self._connection = connection
        self.memory = memory
        self.unreadable: set[str] = set()

    async def now(self) -> datetime:
        """The database's clock, by which all deadlines run."""
        now: datetime = await queries.database_time.value(self._connection)
        return now

    async def lock_sagas(self, order_ids: Iterable[str]) -> tuple[dict[str, Saga], datetime]:
        """The sagas of these orders that are there, locked in key order, and the database's clock.

        A row that can't be read is set aside for an operator, and left out.
        """
        *locked, clock = await queries.lock_sagas.rows(
            self._connection, order_ids=sorted(set(order_ids))
        )
        sagas: dict[str, Saga] = {}
        missing: list[str] = []
        for order_id, version, stuck, _ in locked:
            saga = self.memory.get(order_id, version, stuck=stuck)
            if saga is None:
                missing.append(order_id)
            else:
                sagas[order_id] = saga
        if missing:
            for row in await queries.read_sagas.rows(self._connection, order_ids=missing):
                try:
                    sagas[row["order_id"]] = read_saga(row)
                except UnreadableSagaError as error:
                    self.unreadable.add(error.order_id)
                    await self.set_aside(error.order_id, f"unreadable: {error.detail}")
        return sagas, clock["now"]

    async def set_aside(self, order_id: str, why: str) -> None:
        """Leave a saga that can't be worked on to an operator: no timer touches it again."""
        _log.error("saga_set_aside", order_id=order_id, detail=why)
        await queries.set_aside.run(self._connection, order_id=order_id, why=why)

    async def due(self, limit: int) -> list[str]:
        """Orders whose timer has passed, locked; those that another instance holds left out."""
        rows = await queries.due_sagas.rows(self._connection, sagas=limit)
        return [row["order_id"] for row in rows]

    async def pending(self, limit: int) -> list[str]:
        """Orders that wait for admission, oldest first, locked."""
        rows = await queries.pending_sagas.rows(self._connection, sagas=limit)
        return [row["order_id"] for row in rows]

    def insert(self, sagas: Sequence[Saga], histories: Histories) -> Write:
        """Stores new sagas, each with what happened to it. Conflicts where another instance
        stored one of them first."""
        placed = [placed_columns(saga) for saga in sagas]
        return queries.insert_sagas.write(
            len(sagas),
            user_ids=[row["user_id"] for row in placed],
            fingerprints=[row["fingerprint"] for row in placed],
            fingerprint_versions=[row["fingerprint_version"] for row in placed],
            traceparents=[row["traceparent"] for row in placed],
            accepted_ats=[row["accepted_at"] for row in placed],
            placeds=[_json(row["placed"]) for row in placed],
            definition_versions=[row["definition_version"] for row in placed],
            **_changing(sagas, histories),
        )

    def update(self, changed: Sequence[tuple[int, Saga]], histories: Histories) -> Write:
        """Stores changed sagas with the versions that they were loaded with, and adds to their
        history what happened to them. Conflicts where one has another version by now: a late
        writer loses."""
        return queries.update_sagas.write(
            len(changed),
            old_versions=[old_version for old_version, _ in changed],
            **_changing([saga for _, saga in changed], histories),
        )

    def park(self, commands: Sequence[tuple[str, str, Message, str]]) -> Write:
        """Keeps (order id, command id, command, traceparent) until the order comes. One that is
        kept already is left as it is."""
        return queries.park_commands.write(
            None,
            order_ids=[order_id for order_id, _, _, _ in commands],
            types=[command.type for _, _, command, _ in commands],
            command_ids=[command_id for _, command_id, _, _ in commands],
            bodies=[command.to_bytes().decode() for _, _, command, _ in commands],
            traceparents=[traceparent for _, _, _, traceparent in commands],
        )

    async def unpark(self, order_ids: Collection[str]) -> list[Parked]:
        """Take the commands that waited for these orders, in the order in which they came."""
        rows = await queries.unpark_commands.rows(self._connection, order_ids=sorted(order_ids))
        return [_parked(row) for row in rows]

    async def parked_for_known_orders(self, since_s: float, limit: int) -> list[str]:
        """Orders that are there by now though a command was parked for them in the last
        `since_s` seconds."""
        rows = await queries.parked_for_known_orders.rows(
            self._connection, since_s=since_s, orders=limit
        )
        return [row["order_id"] for row in rows]

    async def expire_parked(self, keep_s: float, limit: int) -> list[Parked]:
        """Take commands that waited longer than `keep_s` seconds for an order that never came."""
        rows = await queries.expire_parked.rows(self._connection, keep_s=keep_s, commands=limit)
        return [_parked(row) for row in rows]


def read_saga(row: asyncpg.Record) -> Saga:
    """The saga of a row; raises `UnreadableSagaError`."""
    record = dict(row)
    try:
        record["placed"] = json.loads(row["placed"])
        record["progress"] = json.loads(row["progress"])
    except ValueError as error:
        raise UnreadableSagaError(row["order_id"], f"no JSON: {error}") from error
    return from_record(record)


def _changing(sagas: Sequence[Saga], histories: Histories) -> dict[str, list[Any]]:
    """The columns of new and changed sagas alike."""
    rows = [progress_columns(saga) for saga in sagas]
    columns = {f"{name}s": [row[name] for row in rows] for name in _PLAIN}
    return columns | {
        "order_ids": [saga.order.order_id for saga in sagas],
        "progresses": [_json(row["progress"]) for row in rows],
        "waitings": [waits_for_reply(saga) for saga in sagas],
        "histories": [_lines(histories[saga.order.order_id]) for saga in sagas],
    }


def _lines(entries: Sequence[HistoryEntry]) -> str:
    """A line for each transition, as the view `saga_history` reads them."""
    return "".join([to_json(entry).decode() + "\n" for entry in entries])


def _json(document: Any) -> str:
    return to_json(document).decode()


def _parked(row: asyncpg.Record) -> Parked:
    return Parked(row["order_id"], row["command_type"], row["body"], row["traceparent"])
