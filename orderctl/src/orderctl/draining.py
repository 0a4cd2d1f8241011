"""What is under way in the whole system, and what of it stands in the way of a deploy.

There is one way of looking: whoever waits for rest, before an audit or a deploy, waits here.

Nearly nothing does: sagas in flight finish on new code, whatever their state; chunks in the
outbox are published and messages on topics are read by whichever code comes next; parked
commands, stuck orders and those that await their payment lie in tables. What blocks is what new
code would not carry on: a saga of a definition that it doesn't know (before going back to older
code), and chunks that nobody publishes, since whatever keeps them would outlast the deploy.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from order_orchestrator.saga import DEFINITION_VERSION
from shared.contracts.base import format_time
from shared.contracts.topics import GROUPS
from shared.database import Queries
from shared.kafka.reading import standings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from shared.kafka.connection import KafkaConnection

LATE_S: Final = 10.0
QUERY_MS: Final = 10_000
POLL_S: Final = 0.25

queries = Queries("orderctl", "sql/operating.sql")


@dataclass(frozen=True, slots=True)
class Look:
    """How the system was at a moment."""

    sagas: Sequence[Mapping[str, Any]]
    chunks: Sequence[Mapping[str, Any]]
    parked: Mapping[str, Any]
    lag: Mapping[str, int]
    """Messages that wait, by consumer group; empty where no broker was asked."""

    def blocks(self, known_definition: int = DEFINITION_VERSION) -> list[str]:
        """What a deploy of code that knows this definition must not meet."""
        unknown = [row for row in self.sagas if row["definition_version"] > known_definition]
        late = [row for row in self.chunks if row["late"]]
        return [
            f"sagas in {row['state']} of definition {row['definition_version']}: {row['sagas']:,};"
            f" this release knows up to {known_definition}, finish them on the newer one"
            for row in unknown
        ] + [
            f"chunks of {row['schema']} unpublished past their lease: {row['late']:,};"
            " nobody publishes them, see `make status` and the broker"
            for row in late
        ]

    def moving(self) -> list[str]:
        """What is under way and will be over by itself."""
        sagas = sum(row["sagas"] for row in self.sagas if row["moving"])
        return [
            *([f"sagas: {sagas:,}"] if sagas else []),
            *(f"chunks of {row['schema']}: {row['chunks']:,}" for row in self.chunks),
            *(f"messages for {group}: {lag:,}" for group, lag in self.lag.items() if lag),
        ]

    @property
    def at_work(self) -> str:
        """The same in words, or ""."""
        return "; ".join(self.moving())

    def document(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "blocks": self.blocks(),
            "moving": self.moving(),
            "sagas": [_plain(row) for row in self.sagas],
            "unpublished": [_plain(row) for row in self.chunks],
            "parked": _plain(self.parked),
            "lag": dict(self.lag),
        }


async def look(
    dsn: str, kafka: KafkaConnection | None, groups: Collection[str] = tuple(GROUPS)
) -> Look:
    """How the system is now; `groups` are those whose lag counts. Raises the errors of database
    and broker."""
    settings = {"application_name": "drain", "statement_timeout": str(QUERY_MS)}
    connection = await asyncpg.connect(dsn, server_settings=settings)
    try:
        found = await _stored(connection)
        if kafka is None:
            return found
        lag: dict[str, int] = {}
        for group in groups:
            found_lag = await standings(kafka, group, GROUPS[group])
            lag[group] = sum(one.lag for one in found_lag.values())
        if found.at_work or any(lag.values()):
            return replace(found, lag=lag)
        # Twice: what was read from the topics between the two may be in the database by now, and
        # what was there before may lie on a topic.
        return replace(await _stored(connection), lag=lag)
    finally:
        await connection.close()


async def wait_until_at_rest(
    dsn: str,
    kafka: KafkaConnection | None,
    *,
    within_s: float,
    tell: Callable[[str], None] = lambda _: None,
    groups: Collection[str] = tuple(GROUPS),
) -> Look:
    """Look until nothing is on its way, `within_s` seconds at most: how the system is then.

    An order that awaits its payment, or an operator, is at rest: nothing moves until somebody
    acts. `tell` hears what is on its way, as that changes. Where not all services are there,
    `groups` are those whose messages have a reader. Raises what `look` raises.
    """
    deadline_s, told = time.monotonic() + within_s, ""
    while True:
        late = time.monotonic() >= deadline_s
        # Topics are dear to look at, and tell nothing that counts while the database is at work.
        found = await look(dsn, None)
        if kafka is not None and (late or not found.at_work):
            found = await look(dsn, kafka, groups)
        if late or not found.at_work:
            return found
        if found.at_work != told:
            told = found.at_work
            tell(told)
        await asyncio.sleep(POLL_S)


async def _stored(connection: asyncpg.Connection[asyncpg.Record]) -> Look:
    """What lies in the database, in one view of it: nothing slips from one table to another."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        sagas = await queries.sagas_under_way.rows(connection)
        chunks = await queries.unpublished_chunks.rows(connection, late_s=LATE_S)
        (parked,) = await queries.parked_commands.rows(connection)
    return Look([dict(row) for row in sagas], [dict(row) for row in chunks], dict(parked), {})


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    words = {"definition_version": "definitionVersion"}
    return {
        words.get(name, name): format_time(value) if name == "oldest" and value else value
        for name, value in row.items()
    }
