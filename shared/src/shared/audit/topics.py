"""What must hold between the topics and the database: nothing waits, nothing was lost, and every
order has one outcome."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from shared.audit.reading import read_to_end, standings
from shared.audit.report import Check, Moment, Report
from shared.contracts.base import fingerprint, message_id
from shared.contracts.orders import (
    OrderAccepted,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
)
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import GROUPS, TOPICS, dead_letter_topic, service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from aiokafka import ConsumerRecord

    from shared.contracts.base import Message
    from shared.kafka.connection import KafkaConnection

VIOLATIONS_LISTED = 100
MESSAGES_PER_LOOKUP = 5_000

CONSUMING_GROUPS: Final = tuple(
    group
    for group, topics in GROUPS.items()
    if all(TOPICS[topic].kind != "dead_letters" for topic in topics)
)
"""Groups that obey messages. Who reads dead letters leaves no mark of each in an inbox."""

SCHEMAS: Final[Mapping[str, str]] = {"order-orchestrator": "orders"}
"""Service -> schema, where they differ in name."""

_OUTCOMES = (OrderConfirmed, OrderRejected, OrderCancelled)
_EVENTS = "orders.events.v1"

_IN_INBOX = """
SELECT message_type, message_id, fingerprint
FROM inbox
WHERE (message_type, message_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
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


async def audit_topics(
    connection: KafkaConnection, dsn: str, *, groups: Iterable[str] = CONSUMING_GROUPS
) -> Report:
    """Checks lag and lost messages of `groups`, and the outcome of every order.

    `dsn` is the operator's. All of it holds at rest only. Every record of the topics is read, at
    some 70 µs each on a busy machine. Raises TopicError where a topic is missing, and the errors
    of broker and database where they can't be reached.
    """
    checks = []
    database = await asyncpg.connect(dsn, server_settings={"application_name": "audit"})
    try:
        for group in groups:
            checks.append(await check_lag(connection, group))
            checks.append(await check_consumed(connection, database, group))
    finally:
        await database.close()
    checks.append(await check_outcomes(connection))
    return Report(tuple(checks))


async def check_lag(connection: KafkaConnection, group: str) -> Check:
    """Invariant 9: the group has read and committed all that lies on its topics."""
    started_at = time.monotonic()
    found = await standings(connection, group, GROUPS[group])
    violations = [
        {
            "topic": connection.plain(partition.topic),
            "partition": partition.partition,
            "committed": standing.committed,
            "end": standing.end,
            "lag": standing.lag,
        }
        for partition, standing in found.items()
        if standing.lag
    ]
    return _check(
        Check("lag_is_zero", group, 9, Moment.AT_REST, "consumer lag is 0"),
        violations,
        started_at,
        looked_at=len(found),
    )


async def check_outcomes(connection: KafkaConnection) -> Check:
    """Invariant 6, over the public events. An order that awaits its payment is still open."""
    started_at = time.monotonic()
    reader = reader_of(TOPICS[_EVENTS])
    outcomes: dict[str, str] = {}
    without: set[str] = set()
    open_ones: set[str] = set()
    contradictory: dict[str, set[str]] = {}
    async for records in read_to_end(connection, [_EVENTS]):
        for record in records:
            message = reader.read(record.value)
            if isinstance(message, OrderAccepted):
                if message.order_id not in outcomes:
                    without.add(message.order_id)
            elif isinstance(message, OrderAwaitingPayment):
                open_ones.add(message.order_id)
            elif isinstance(message, _OUTCOMES):
                without.discard(message.order_id)
                first = outcomes.setdefault(message.order_id, message.type)
                if first != message.type:
                    contradictory.setdefault(message.order_id, {first}).add(message.type)
    violations = [
        {"order_id": order_id, "outcomes": sorted(types)}
        for order_id, types in contradictory.items()
    ]
    violations += [
        {"order_id": order_id, "outcomes": []} for order_id in sorted(without - open_ones)
    ]
    return _check(
        Check(
            "orders_have_one_outcome",
            _EVENTS,
            6,
            Moment.AT_REST,
            "every accepted order has exactly one outcome event",
        ),
        violations,
        started_at,
        looked_at=len(outcomes) + len(without),
    )


async def check_consumed(
    connection: KafkaConnection, database: asyncpg.Connection[asyncpg.Record], group: str
) -> Check:
    """Invariant 8: what the group has passed over is in its inbox or in its dead letters."""
    started_at = time.monotonic()
    service = service_of(group)
    async with database.transaction(readonly=True):
        await database.execute(
            "SELECT set_config('search_path', $1, true)", f'"{SCHEMAS.get(service, service)}"'
        )
        ledger = _Ledger(database)
        async for position, record in _records(connection, [dead_letter_topic(group)]):
            ledger.add_dead_letter(position, record)
        committed = await _committed(connection, group)
        looked_at = 0
        async for position, record in _records(connection, GROUPS[group]):
            if position.offset < committed[position.topic, position.partition]:
                looked_at += 1
                await ledger.add_consumed(position, record)
        violations = await ledger.settle()
    return _check(
        Check(
            "consumed_messages_are_accounted_for",
            group,
            8,
            Moment.AT_REST,
            "every consumed message is in the inbox or a dead-letter topic, not both",
        ),
        violations,
        started_at,
        looked_at=looked_at,
    )


class _Ledger:
    """Holds the messages that a group passed over against its inbox and its dead letters."""

    def __init__(self, database: asyncpg.Connection[asyncpg.Record]) -> None:
        self._database = database
        self._violations: list[dict[str, Any]] = []
        self._dead: set[Position] = set()
        self._dead_messages: dict[Identity, Position] = {}
        """Messages of which no copy was seen that is not a dead letter."""
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
        self._dead.add(position)
        reader = self._readers.get(position.topic)
        message = reader.read(record.value) if reader else None
        if message is not None and not isinstance(message, Unreadable):
            self._dead_messages[_identity(message)] = position

    async def add_consumed(self, position: Position, record: ConsumerRecord[Any, Any]) -> None:
        if position in self._dead:
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

    async def settle(self) -> list[dict[str, Any]]:
        """The violations, once everything was added."""
        await self._look_up()
        for identity in await self._in_inbox(self._dead_messages):
            self._violate(
                f"{identity.type} {identity.id} was obeyed and dead-lettered",
                self._dead_messages[identity],
            )
        return self._violations

    async def _look_up(self) -> None:
        known = await self._in_inbox(self._waiting)
        for identity, position in self._waiting.items():
            self._dead_messages.pop(identity, None)
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
        self._violations.append({"problem": problem, **position._asdict()})


async def _records(
    connection: KafkaConnection, topics: Iterable[str]
) -> AsyncIterator[tuple[Position, ConsumerRecord[Any, Any]]]:
    async for records in read_to_end(connection, topics):
        for record in records:
            topic = connection.plain(record.topic)
            yield Position(topic, record.partition, record.offset), record


async def _committed(connection: KafkaConnection, group: str) -> dict[tuple[str, int], int]:
    found = await standings(connection, group, GROUPS[group])
    return {
        (connection.plain(partition.topic), partition.partition): standing.committed or 0
        for partition, standing in found.items()
    }


def _identity(message: Message) -> Identity:
    return Identity(message.type, message_id(message), fingerprint(message))


def _check(
    check: Check, violations: list[dict[str, Any]], started_at: float, *, looked_at: int
) -> Check:
    return replace(
        check,
        violations=tuple(violations[:VIOLATIONS_LISTED]),
        more=len(violations) > VIOLATIONS_LISTED,
        looked_at=looked_at,
        took_s=time.monotonic() - started_at,
    )
