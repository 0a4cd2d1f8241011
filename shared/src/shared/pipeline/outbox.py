"""The outbox: what a transaction wants to say, written with its effects.

A chunk is one row of the table, however many messages it holds. Public chunks stay for a day,
since Kafka acknowledges before it syncs its disk; internal ones go as soon as they are published,
and the saga's timers make up for what a broker lost.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json

from shared.contracts.topics import TOPICS
from shared.database import Connection, Queries, Write, write_all
from shared.kafka.cloudevents import common_headers
from shared.kafka.publisher import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from shared.pipeline.messages import Outgoing

_queries = Queries("shared", "database/sql/pipeline.sql")

_INTERNAL_KINDS = frozenset({"commands", "replies"})
PUBLIC_TOPICS = frozenset(
    name
    for name, topic in TOPICS.items()
    if topic.kind not in _INTERNAL_KINDS or name == "orders.commands.v1"
)


class Row(NamedTuple):
    """One message of the outbox."""

    topic: str
    key: bytes | None
    message_type: str
    message_id: str
    value: bytes | None
    traceparent: str
    headers: Mapping[str, str] | None = None

    @classmethod
    def of(cls, outgoing: Outgoing) -> Row:
        """The row of a message."""
        message = outgoing.message
        return cls(
            outgoing.topic,
            outgoing.key.encode(),
            message.type,
            outgoing.message_id,
            message.to_bytes(),
            outgoing.traceparent,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The messages of one transaction that are published and marked together."""

    chunk_id: int
    created_at: datetime
    rows: Sequence[Row]

    def records(self, source: str) -> list[Record]:
        """The records to publish, with CloudEvents headers in binary mode."""
        at_ms = int(self.created_at.timestamp() * 1000)
        fixed = common_headers(source, self.created_at)
        return [
            Record(row.topic, row.key, row.value, _headers(row, fixed), at_ms) for row in self.rows
        ]


async def write_outbox(
    connection: Connection,
    rows: Iterable[Row],
    effects: Sequence[Write] = (),
    *,
    owner: str,
    lease_s: float,
) -> list[Chunk]:
    """Write `rows` and their `effects`, the last of a transaction: a chunk for internal messages,
    a chunk for public ones, both in the given order. Raises `Conflict`."""
    parts: dict[bool, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.topic in PUBLIC_TOPICS, []).append(row)
    if not parts:
        await write_all(connection, effects)
        return []
    insert = _queries.write_outbox.write(
        len(parts),
        owner=owner,
        lease_s=lease_s,
        public=list(parts),
        messages=[_to_json(part) for part in parts.values()],
    )
    written = await write_all(connection, effects, insert)
    return [Chunk(row["chunk_id"], row["created_at"], parts[row["public"]]) for row in written]


async def mark_published(connection: Connection, chunk_ids: Sequence[int]) -> None:
    """Record that every row of these chunks was acknowledged by the broker."""
    await _queries.mark_published.run(connection, chunk_ids=sorted(chunk_ids))


async def claim_unpublished(
    connection: Connection,
    *,
    owner: str,
    lease_s: float,
    own_grace_s: float,
    in_memory: Sequence[int],
    limit_chunks: int,
) -> list[Chunk]:
    """Take over up to `limit_chunks` chunks that a crash left, oldest first.

    Own ones count when they are older than `own_grace_s` and not `in_memory` of the relay;
    others' when their lease ran out.
    """
    claimed = await _queries.claim_unpublished.rows(
        connection,
        owner=owner,
        lease_s=lease_s,
        in_memory=in_memory,
        own_grace_s=own_grace_s,
        chunks=limit_chunks,
    )
    return [
        Chunk(row["chunk_id"], row["created_at"], _from_json(row["messages"]))
        for row in sorted(claimed, key=itemgetter("chunk_id"))
    ]


async def delete_published(connection: Connection, *, keep_s: float, limit_chunks: int) -> int:
    """Delete public chunks published more than `keep_s` seconds ago; returns how many."""
    return await _queries.delete_published.run(connection, keep_s=keep_s, chunks=limit_chunks)


async def backlog(connection: Connection, limit: int = 1000) -> tuple[int, float]:
    """How many chunks wait (counted up to `limit`), and the age of the oldest in seconds."""
    row = await _queries.outbox_backlog.row(connection, limit=limit)
    assert row is not None
    return row["chunks"], row["oldest_age_s"]


def _to_json(rows: Sequence[Row]) -> str:
    """The rows as `outbox_message` takes them apart. Only dead letters have headers, and only
    they may hold bytes that are no text."""
    fields: list[tuple[Any, ...]] = []
    for topic, key, message_type, message_id, value, traceparent, headers in rows:
        if headers is None:
            fields.append((topic, key, message_type, message_id, traceparent, value))
        else:
            fields.append(
                (topic, _text(key), message_type, message_id, traceparent, _text(value), headers)
            )
    return to_json(fields).decode()


def _from_json(written: str) -> list[Row]:
    return [
        Row(topic, _bytes(key), message_type, message_id, _bytes(value), traceparent, *headers)
        for topic, key, message_type, message_id, traceparent, value, *headers in from_json(written)
    ]


def _text(content: bytes | None) -> str | dict[str, str] | None:
    if content is None:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        if b"\0" not in content:  # Postgres has no text with it
            return content.decode()
    return {"base64": base64.b64encode(content).decode()}


def _bytes(written: str | Mapping[str, str] | None) -> bytes | None:
    if written is None:
        return None
    if isinstance(written, str):
        return written.encode()
    return base64.b64decode(written["base64"])


def _headers(row: Row, fixed: tuple[tuple[str, bytes], ...]) -> list[tuple[str, bytes]]:
    headers = [
        *fixed,
        ("ce_id", row.message_id.encode()),
        ("ce_type", row.message_type.encode()),
        ("traceparent", row.traceparent.encode()),
    ]
    if row.key is not None:
        headers.append(("ce_subject", row.key))
    if row.headers:
        headers.extend((name, value.encode()) for name, value in row.headers.items())
    return headers
