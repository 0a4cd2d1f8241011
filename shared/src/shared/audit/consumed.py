"""Invariant 8 over the topics: what a group has passed over is in its inbox or a dead letter."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.audit.report import VIOLATIONS_LISTED, Check, Moment
from shared.contracts.base import fingerprint, message_id
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import GROUPS, RETENTION_MS, TOPICS, dead_letter_topic, service_of
from shared.kafka.reading import read_to_end, standings
from shared.services import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    import asyncpg
    from aiokafka import ConsumerRecord

    from shared.contracts.base import Message
    from shared.kafka.connection import KafkaConnection
    from shared.kafka.reading import Standing

MESSAGES_PER_LOOKUP = 5_000

_IN_INBOX = """
SELECT message_type, message_id, fingerprint
FROM inbox
WHERE (message_type, message_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""

# In a file that is gone with the connection: there may be any number of dead letters.
_DEAD_LETTERS = """
CREATE TABLE dead (
    topic TEXT, partition INTEGER, place INTEGER, PRIMARY KEY (topic, partition, place)
) WITHOUT ROWID;
CREATE TABLE dead_message (
    type TEXT, id TEXT, fingerprint BLOB, topic TEXT, partition INTEGER, place INTEGER,
    PRIMARY KEY (type, id, fingerprint)
) WITHOUT ROWID;
"""


class Position(NamedTuple):
    """Where a message lies, under the contract's name of its topic."""

    topic: str
    partition: int
    offset: int


class Identity(NamedTuple):
    """By what the inbox knows a message."""

    type: str
    id: str
    fingerprint: bytes


async def check_consumed(
    connection: KafkaConnection, database: asyncpg.Connection[asyncpg.Record], group: str
) -> Check:
    """Invariant 8: what the group has passed over is in its inbox or in its dead letters."""
    started_at = time.monotonic()
    async with database.transaction(readonly=True):
        await database.execute(
            "SELECT set_config('search_path', $1, true)", f'"{SCHEMAS[service_of(group)]}"'
        )
        ledger = _Ledger(database)
        async for position, record in _records(connection, [dead_letter_topic(group)]):
            ledger.add_dead_letter(position, record)
        held = await _standings(connection, group)
        # Segments outlive the retention of their oldest messages; the inbox need not.
        oldest_ms = time.time() * 1000 - RETENTION_MS
        looked_at = 0
        async for position, record in _records(connection, GROUPS[group]):
            passed = position.offset < (held[position.topic, position.partition].committed or 0)
            if passed and record.timestamp >= oldest_ms:
                looked_at += 1
                await ledger.add_consumed(position, record)
        violations = await ledger.settle({place: one.begin for place, one in held.items()})
    return Check(
        "consumed_messages_are_accounted_for",
        group,
        8,
        Moment.AT_REST,
        "every consumed message is in the inbox or a dead-letter topic, not both",
    ).found(violations, started_at, looked_at=looked_at)


class _Ledger:
    """Holds the messages that a group passed over against its inbox and its dead letters."""

    def __init__(self, database: asyncpg.Connection[asyncpg.Record]) -> None:
        self._database = database
        self._violations: list[dict[str, Any]] = []
        self._dead = sqlite3.connect("")
        """Where dead letters lay, and their messages while no copy was seen that is none."""
        self._dead.executescript(_DEAD_LETTERS)
        self._waiting: dict[Identity, Position] = {}
        self._readers = {name: reader_of(topic) for name, topic in TOPICS.items() if topic.messages}

    def add_dead_letter(self, own: Position, record: ConsumerRecord[Any, Any]) -> None:
        headers = {
            name: (value or b"").decode("utf-8", "replace") for name, value in record.headers
        }
        try:
            position = Position(
                headers["dlq-original-topic"],
                int(headers["dlq-original-partition"]),
                int(headers["dlq-original-offset"]),
            )
        except (KeyError, ValueError):
            self._violate("a dead letter does not say where it lay", own)
            return
        self._dead.execute("INSERT OR IGNORE INTO dead VALUES (?, ?, ?)", position)
        reader = self._readers.get(position.topic)
        message = reader.read(record.value) if reader else None
        if message is not None and not isinstance(message, Unreadable):
            self._dead.execute(
                "INSERT OR REPLACE INTO dead_message VALUES (?, ?, ?, ?, ?, ?)",
                (*_identity(message), *position),
            )

    async def add_consumed(self, position: Position, record: ConsumerRecord[Any, Any]) -> None:
        dead = "SELECT 1 FROM dead WHERE topic = ? AND partition = ? AND place = ?"
        if self._dead.execute(dead, position).fetchone():
            return
        message = self._readers[position.topic].read(record.value)
        if isinstance(message, Unreadable):
            # Versions run side by side: replies and events of an unknown type are passed over.
            commands = TOPICS[position.topic].kind not in ("replies", "events")
            if commands or message.reason != "unknown_type":
                self._violate(f"unreadable ({message.reason}), and no dead letter", position)
            return
        self._waiting[_identity(message)] = position
        if len(self._waiting) >= MESSAGES_PER_LOOKUP:
            await self._look_up()

    async def settle(self, begins: Mapping[tuple[str, int], int]) -> list[dict[str, Any]]:
        """The violations, once everything was added. `begins` has the first offset that is still
        there, by topic and partition: a dead letter whose message lay before it is not judged,
        since the copy that was replayed, and obeyed, may be gone as well."""
        await self._look_up()
        dead = self._dead.execute("SELECT * FROM dead_message")
        while rows := dead.fetchmany(MESSAGES_PER_LOOKUP):
            positions = {Identity(*row[:3]): Position(*row[3:]) for row in rows}
            for identity in await self._in_inbox(positions):
                lay = positions[identity]
                if lay.offset >= begins.get((lay.topic, lay.partition), 0):
                    self._violate(
                        f"{identity.type} {identity.id} was obeyed and dead-lettered", lay
                    )
        self._dead.close()
        return self._violations

    async def _look_up(self) -> None:
        known = await self._in_inbox(self._waiting)
        self._dead.executemany(
            "DELETE FROM dead_message WHERE type = ? AND id = ? AND fingerprint = ?", self._waiting
        )
        for identity, position in self._waiting.items():
            if identity not in known:
                self._violate(f"{identity.type} {identity.id} was lost", position)
        self._waiting.clear()

    async def _in_inbox(self, identities: Iterable[Identity]) -> set[Identity]:
        wanted = list(identities)
        if not wanted:
            return set()
        types, ids, _ = zip(*wanted, strict=True)
        rows = await self._database.fetch(_IN_INBOX, types, ids)
        return {Identity(*row) for row in rows}.intersection(wanted)

    def _violate(self, problem: str, position: Position) -> None:
        if len(self._violations) <= VIOLATIONS_LISTED:
            self._violations.append({"problem": problem, **position._asdict()})


async def _records(
    connection: KafkaConnection, topics: Iterable[str]
) -> AsyncIterator[tuple[Position, ConsumerRecord[Any, Any]]]:
    async for records in read_to_end(connection, topics):
        for record in records:
            topic = connection.plain(record.topic)
            yield Position(topic, record.partition, record.offset), record


async def _standings(connection: KafkaConnection, group: str) -> dict[tuple[str, int], Standing]:
    found = await standings(connection, group, GROUPS[group])
    return {
        (connection.plain(partition.topic), partition.partition): standing
        for partition, standing in found.items()
    }


def _identity(message: Message) -> Identity:
    return Identity(message.type, message_id(message), fingerprint(message))
