"""Invariant 6 over the public events: one outcome each, and the one that the order has.

Events are told apart by `eventId`, which is the order's id and the event's type, so what is kept
of an order is one number: which types of event were seen, however often.
"""

from __future__ import annotations

import sqlite3
import time
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Final

from shared.audit.report import VIOLATIONS_LISTED, Check, Moment
from shared.contracts.orders import (
    OrderAccepted,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
)
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import EVENT_RETENTION_MS, TOPICS
from shared.kafka.reading import read_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from shared.kafka.connection import KafkaConnection

ORDERS_PER_LOOKUP: Final = 5_000
EVENTS: Final = "orders.events.v1"
_DAY_MS: Final = 86_400_000


class Told(IntFlag):
    """What was told of an order."""

    NOTHING = 0
    ACCEPTED = 1
    AWAITING = 2
    CONFIRMED = 4
    REJECTED = 8
    CANCELLED = 16
    OUTCOME = 28


_TOLD_BY: Final = {
    OrderAccepted: Told.ACCEPTED,
    OrderAwaitingPayment: Told.AWAITING,
    OrderConfirmed: Told.CONFIRMED,
    OrderRejected: Told.REJECTED,
    OrderCancelled: Told.CANCELLED,
}
_OUTCOME_OF: Final = {
    "COMPLETING": Told.CONFIRMED,
    "CONFIRMED": Told.CONFIRMED,
    "REJECTED": Told.REJECTED,
    "CANCELLED": Told.CANCELLED,
}
"""State of a saga -> what it has told."""

_STATES = "SELECT order_id, state FROM orders.saga WHERE order_id = ANY ($1)"
# The first events of older orders may be gone.
_SAGAS = """
SELECT order_id, state FROM orders.saga
WHERE accepted_at > clock_timestamp() - $1::float8 * interval '1 millisecond'
"""

# In a file that is gone with the connection: there may be millions of orders.
_SEEN = "CREATE TABLE seen (order_id TEXT PRIMARY KEY, told INTEGER NOT NULL) WITHOUT ROWID"
_SEE = """
INSERT INTO seen VALUES (?, ?)
ON CONFLICT (order_id) DO UPDATE SET told = told | excluded.told
"""


class Telling:
    """What lies on the topic of public events."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("")
        self._seen.execute(_SEEN)
        self.orders = 0
        """How many there are."""

    @classmethod
    async def read(cls, connection: KafkaConnection) -> Telling:
        """Read the topic to its end. Raises what `read_to_end` raises."""
        telling = cls()
        reader = reader_of(TOPICS[EVENTS])
        async for records in read_to_end(connection, [EVENTS]):
            messages = [reader.read(record.value) for record in records]
            telling._seen.executemany(
                _SEE,
                [
                    (message.order_id, int(_TOLD_BY[type(message)]))  # type: ignore[attr-defined]
                    for message in messages
                    if not isinstance(message, Unreadable) and type(message) in _TOLD_BY
                ],
            )
        (telling.orders,) = telling._seen.execute("SELECT count(*) FROM seen").fetchone()
        return telling

    def close(self) -> None:
        """Let go of what was read."""
        self._seen.close()

    def contradictions(self) -> Iterator[dict[str, Any]]:
        """Orders with several outcomes, then accepted ones with none that await no payment."""
        several = f"SELECT * FROM seen WHERE told & {Told.OUTCOME:d} NOT IN (0, 4, 8, 16)"  # noqa: S608 - a number
        for order_id, told in self._seen.execute(several):
            yield {"order_id": order_id, "outcomes": names(Told(told) & Told.OUTCOME)}
        none = f"SELECT order_id FROM seen WHERE told & {Told.OUTCOME | Told.AWAITING:d} = 0"  # noqa: S608 - a number
        for (order_id,) in self._seen.execute(none):
            yield {"order_id": order_id, "outcomes": []}

    async def other_than_stored(
        self, database: asyncpg.Connection[asyncpg.Record]
    ) -> list[dict[str, Any]]:
        """Orders that were told of and are not there, or ended otherwise, or were not told of."""
        found = []
        rows = self._seen.execute("SELECT * FROM seen ORDER BY order_id")
        while batch := rows.fetchmany(ORDERS_PER_LOOKUP):
            told = dict(batch)
            states = {
                row["order_id"]: row["state"] for row in await database.fetch(_STATES, list(told))
            }
            for order_id, bits in told.items():
                state = states.get(order_id)
                said = Told(bits) & Told.OUTCOME
                if state is None or said != _OUTCOME_OF.get(state, Told.NOTHING):
                    found.append({"order_id": order_id, "state": state, "told": names(Told(bits))})
            if len(found) > VIOLATIONS_LISTED:
                return found
        async with database.transaction(readonly=True):
            age_ms = float(EVENT_RETENTION_MS - _DAY_MS)
            async for order_id, state in database.cursor(_SAGAS, age_ms, prefetch=1_000):
                if not self._seen.execute(
                    "SELECT 1 FROM seen WHERE order_id = ?", (order_id,)
                ).fetchone():
                    found.append({"order_id": order_id, "state": state, "told": []})
                    if len(found) > VIOLATIONS_LISTED:
                        break
        return found


def names(told: Told) -> list[str]:
    """The types of event that were seen, by name."""
    return sorted(kind.__name__ for kind, bit in _TOLD_BY.items() if bit in told)


async def check_outcomes(connection: KafkaConnection) -> Check:
    """Invariant 6, over the public events. An order that awaits its payment is still open."""
    started_at = time.monotonic()
    telling = await Telling.read(connection)
    try:
        return one_outcome(telling, started_at)
    finally:
        telling.close()


def one_outcome(telling: Telling, started_at: float) -> Check:
    """Every accepted order has exactly one outcome event."""
    return Check(
        "orders_have_one_outcome",
        EVENTS,
        6,
        Moment.AT_REST,
        "every accepted order has exactly one outcome event",
    ).found(
        [
            row
            for row, _ in zip(telling.contradictions(), range(VIOLATIONS_LISTED + 1), strict=False)
        ],
        started_at,
        looked_at=telling.orders,
    )


async def check_told(telling: Telling, database: asyncpg.Connection[asyncpg.Record]) -> Check:
    """Every order that a client was told of exists, and ended as its events say."""
    started_at = time.monotonic()
    violations = await telling.other_than_stored(database)
    return Check(
        "orders_are_told_as_they_are",
        EVENTS,
        6,
        Moment.AT_REST,
        "every order that was told of exists and has the outcome that was told; each is told of",
    ).found(violations, started_at, looked_at=telling.orders)
