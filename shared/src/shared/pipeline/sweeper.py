"""Background work on the outbox and the inbox: publish what a crash left, delete what is old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.database import Queries
from shared.pipeline import outbox
from shared.telemetry import metrics

if TYPE_CHECKING:
    from shared.database import Pool
    from shared.pipeline.relay import Relay

_queries = Queries("shared", "database/sql/pipeline.sql")

CHUNKS_AT_ONCE = 50
DELETED_CHUNKS_AT_ONCE = 500
DELETED_INBOX_ROWS_AT_ONCE = 5_000
OWN_GRACE_S = 3.0
"""A chunk younger than this may be between its commit and the relay."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass did."""

    chunks: int
    more: bool
    """There may be more: go on without waiting."""


class Sweeper:
    """Publishes chunks that nobody else will."""

    def __init__(self, pool: Pool, relay: Relay, *, lease_s: float) -> None:
        """`lease_s` is how long a claimed chunk is this sweeper's."""
        self._pool = pool
        self._relay = relay
        self._lease_s = lease_s
        self._own_grace_s = 0.0

    async def run_once(self) -> Swept:
        """Claim, publish and mark one bounded batch, and set the gauges.

        The first pass of a process takes its own chunks at once: those its predecessor left.
        """
        async with self._pool.acquire() as connection:
            pending, age_s = await outbox.backlog(connection)
            metrics.OUTBOX_PENDING.set(pending)
            metrics.OUTBOX_OLDEST_AGE.set(age_s)
            async with connection.transaction():
                chunks = await outbox.claim_unpublished(
                    connection,
                    owner=self._relay.owner,
                    lease_s=self._lease_s,
                    own_grace_s=self._own_grace_s,
                    in_memory=self._relay.in_memory(),
                    limit_chunks=CHUNKS_AT_ONCE,
                )
        if chunks:
            await self._relay.publish(chunks)
            async with self._pool.acquire() as connection:
                await outbox.mark_published(connection, [chunk.chunk_id for chunk in chunks])
            metrics.SWEPT.labels("any").inc(len(chunks))
        more = len(chunks) == CHUNKS_AT_ONCE
        if not more:
            self._own_grace_s = OWN_GRACE_S
        return Swept(len(chunks), more)


class Janitor:
    """Deletes public chunks that nobody needs any more, a bounded number at a time."""

    def __init__(self, pool: Pool, *, keep_public_s: float) -> None:
        """Public chunks stay `keep_public_s` seconds after they were published."""
        self._pool = pool
        self._keep_public_s = keep_public_s

    async def run_once(self) -> Swept:
        """Delete one batch."""
        async with self._pool.acquire() as connection:
            deleted = await outbox.delete_published(
                connection, keep_s=self._keep_public_s, limit_chunks=DELETED_CHUNKS_AT_ONCE
            )
        return Swept(deleted, more=deleted == DELETED_CHUNKS_AT_ONCE)


class InboxJanitor:
    """Forgets ids that can't come again, a bounded number at a time."""

    def __init__(self, pool: Pool, *, keep_inbox_s: float) -> None:
        """Ids without kept answers stay `keep_inbox_s` seconds."""
        self._pool = pool
        self._keep_inbox_s = keep_inbox_s

    async def run_once(self) -> Swept:
        """Delete one batch."""
        async with self._pool.acquire() as connection:
            forgotten = await _queries.forget_old_messages.run(
                connection, keep_s=self._keep_inbox_s, rows=DELETED_INBOX_ROWS_AT_ONCE
            )
        return Swept(forgotten, more=forgotten == DELETED_INBOX_ROWS_AT_ONCE)
