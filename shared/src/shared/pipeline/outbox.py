"""The outbox: what a transaction wants to say, written with its effects.

Rows are written, published and marked by chunk. Public chunks stay for a day, since Kafka
acknowledges before it syncs its disk; internal ones go as soon as they are published, and the
saga's timers make up for what a broker lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.topics import TOPICS
from shared.database import Connection, Queries
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
    """One row of the outbox."""

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
    """The rows of one transaction that are marked together."""

    chunk_id: int
    created_at: datetime
    rows: Sequence[Row]

    def records(self, source: str) -> list[Record]:
        """The records to publish, with CloudEvents headers in binary mode."""
        at_ms = int(self.created_at.timestamp() * 1000)
        iso = self.created_at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"
        fixed = (
            ("ce_specversion", b"1.0"),
            ("ce_source", source.encode()),
            ("ce_time", iso.encode()),
            ("content-type", b"application/json"),
        )
        return [
            Record(row.topic, row.key, row.value, _headers(row, fixed), at_ms) for row in self.rows
        ]


async def write_outbox(
    connection: Connection, rows: Iterable[Row], *, owner: str, lease_s: float
) -> list[Chunk]:
    """Write `rows`, inside the transaction of their effects: a chunk for internal ones, a chunk
    for public ones, both in the given order."""
    internal: list[Row] = []
    public: list[Row] = []
    for row in rows:
        (public if row.topic in PUBLIC_TOPICS else internal).append(row)
    chunks = []
    for part, is_public in ((internal, False), (public, True)):
        if not part:
            continue
        written = await _queries.write_outbox.row(
            connection,
            owner=owner,
            public=is_public,
            lease_s=lease_s,
            topics=[row.topic for row in part],
            keys=[row.key for row in part],
            types=[row.message_type for row in part],
            ids=[row.message_id for row in part],
            values=[row.value for row in part],
            traceparents=[row.traceparent for row in part],
            headers=[json.dumps(row.headers) if row.headers else None for row in part],
        )
        assert written is not None
        chunks.append(Chunk(written["chunk_id"], written["created_at"], part))
    return chunks


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
    created = {row["chunk_id"]: row["created_at"] for row in claimed}
    rows: dict[int, list[Row]] = {chunk_id: [] for chunk_id in sorted(created)}
    for row in await _queries.read_outbox.rows(connection, chunk_ids=list(rows)):
        rows[row["chunk_id"]].append(
            Row(
                row["topic"],
                row["key"],
                row["message_type"],
                row["message_id"],
                row["value"],
                row["traceparent"],
                json.loads(row["headers"]) if row["headers"] else None,
            )
        )
    return [Chunk(chunk_id, created[chunk_id], part) for chunk_id, part in rows.items()]


async def delete_published(
    connection: Connection, *, public: bool, keep_s: float, limit_chunks: int
) -> int:
    """Delete chunks published more than `keep_s` seconds ago; returns how many."""
    return await _queries.delete_published.run(
        connection, public=public, keep_s=keep_s, chunks=limit_chunks
    )


async def backlog(connection: Connection, limit: int = 1000) -> tuple[int, float]:
    """How many chunks wait (counted up to `limit`), and the age of the oldest in seconds."""
    row = await _queries.outbox_backlog.row(connection, limit=limit)
    assert row is not None
    return row["chunks"], row["oldest_age_s"]


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
