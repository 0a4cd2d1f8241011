"""Whether the message of a dead letter was obeyed since: the inbox of its service knows."""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final

import asyncpg

from orderctl.errors import OperatorError
from shared.contracts.topics import service_of
from shared.database import Queries
from shared.services import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from orderctl.dead_letters.letter import Identity, Letter, Place
    from shared.database import Connection

CONNECT_S: Final = 10.0
ANSWER_S: Final = 30.0

_queries = Queries("orderctl", "sql/dead_letters.sql")


class Known(Enum):
    """What the inbox says of a message."""

    NOT_ASKED = "not asked"
    UNTOLD = "can't be told: the message names no type or no id"
    NOTHING = "not obeyed"
    OBEYED = "obeyed"
    OTHERWISE = "other content was obeyed under its id"


@asynccontextmanager
async def open_inboxes(dsn: str) -> AsyncIterator[Inboxes]:
    """The inboxes of all services; `dsn` is the operator's, who reads every schema. Without one
    nothing is asked. Raises OperatorError where the database says nothing, and asyncpg's errors."""
    if not dsn:
        yield Inboxes(None)
        return
    settings = {"application_name": "orderctl"}
    try:
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_S, command_timeout=ANSWER_S, server_settings=settings
        )
    except TimeoutError as error:
        raise _silent(CONNECT_S) from error
    try:
        yield Inboxes(connection)
    finally:
        await connection.close()


class Inboxes:
    """Asks the inbox of each letter's service."""

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection

    async def known(self, letters: Iterable[tuple[Letter, Identity | None]]) -> dict[Place, Known]:
        """What the inboxes say of these messages, by the place of the letter."""
        asked = list(letters)
        if self._connection is None:
            return {letter.place: Known.NOT_ASKED for letter, _ in asked}
        by_service: dict[str, list[tuple[Letter, Identity]]] = defaultdict(list)
        answer = {
            letter.place: Known.UNTOLD if identity is None else Known.NOTHING
            for letter, identity in asked
        }
        for letter, identity in asked:
            if identity is not None:
                by_service[service_of(letter.group)].append((letter, identity))
        for service, own in by_service.items():
            try:
                found = await self._fingerprints(service, [identity for _, identity in own])
            except TimeoutError as error:
                raise _silent(ANSWER_S) from error
            for letter, (kind, id_, fingerprint) in own:
                there = found.get((kind, id_))
                if there is not None:
                    same = fingerprint == there
                    answer[letter.place] = Known.OBEYED if same else Known.OTHERWISE
        return answer

    async def _fingerprints(
        self, service: str, identities: list[Identity]
    ) -> dict[tuple[str, str], bytes]:
        assert self._connection is not None
        async with self._connection.transaction(readonly=True):
            await self._connection.execute(
                "SELECT set_config('search_path', $1, true)", f'"{SCHEMAS[service]}"'
            )
            rows = await _queries.known_messages.rows(
                self._connection,
                types=[identity.type for identity in identities],
                ids=[identity.id for identity in identities],
            )
        return {(kind, id_): fingerprint for kind, id_, fingerprint in rows}


def _silent(after_s: float) -> OperatorError:
    return OperatorError(
        f"the database at DATABASE_URL doesn't answer within {after_s:g} s;"
        " `make status` tells how the stack is"
    )
