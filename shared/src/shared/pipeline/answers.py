"""Answers to requests: kept beside the id, given again to a duplicate, and refusals spoken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.contracts.base import MAX_NOTE_CHARS, message_id
from shared.contracts.ids import is_id
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.contracts.topics import TOPICS
from shared.database import Connection, Queries, Write
from shared.pipeline.inbox import REUSED
from shared.pipeline.messages import Delivery, Outgoing
from shared.pipeline.outbox import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.pipeline.messages import Refusal, RefusalHandler

_queries = Queries("shared", "database/sql/pipeline.sql")

_REASONS = frozenset(CommandRefusal)
UNKNOWN_COMMAND = "Unknown"
MAX_COMMAND_CHARS = 24
"""Of a type that nobody knows: the answer's event id holds it beside a key and a place."""


def keep(answers: Iterable[tuple[Outgoing, Row]]) -> list[Write]:
    """How the answers to requests are kept, each with its row of the outbox."""
    kept: dict[tuple[str, str], list[list[str]]] = {}
    for answer, row in answers:
        if answer.asked is not None:
            key, value = (row.key or b"").decode(), (row.value or b"").decode()
            kept.setdefault(answer.asked, []).append(
                [row.topic, key, row.message_type, row.message_id, value]
            )
    if not kept:
        return []
    return [
        _queries.keep_answers.write(
            len(kept),
            types=[type_ for type_, _ in kept],
            ids=[id_ for _, id_ in kept],
            answers=[json.dumps(rows) for rows in kept.values()],
        )
    ]


async def of_duplicates(
    connection: Connection, deliveries: Sequence[Delivery]
) -> tuple[list[Row], list[Delivery]]:
    """The kept answers to the duplicates of a chunk, and the deliveries that are new.

    A second copy within one chunk adds nothing: the answer to the first is on its way.
    """
    fresh = [delivery for delivery in deliveries if not delivery.duplicate]
    here = {(delivery.message.type, delivery.message_id) for delivery in fresh}
    asked = {
        (delivery.message.type, delivery.message_id): delivery
        for delivery in deliveries
        if delivery.duplicate and (delivery.message.type, delivery.message_id) not in here
    }
    if not asked:
        return [], fresh
    rows = []
    for found in await _queries.kept_answers.rows(
        connection, types=[type_ for type_, _ in asked], ids=[id_ for _, id_ in asked]
    ):
        delivery = asked[found["message_type"], found["message_id"]]
        for topic, key, type_, id_, value in json.loads(found["answers"] or "[]"):
            rows.append(Row(topic, key.encode(), type_, id_, value.encode(), delivery.traceparent))
    return rows, fresh


def answer_with_command_refused(topic: str) -> RefusalHandler:
    """A handler that says `CommandRefused` on `topic`, wherever the sender can be told."""

    async def answer(
        connection: Connection,
        refusals: Sequence[Refusal],
    ) -> list[Outgoing]:
        return [
            Outgoing(topic, refused.key, refused, message_id(refused), refusal.received.traceparent)
            for refusal in refusals
            if (refused := command_refused(refusal)) is not None
        ]

    return answer


def command_refused(refusal: Refusal) -> CommandRefused | None:
    """The answer to a message that can't be obeyed; None where its ids can't be told."""
    if refusal.unreadable is not None:
        return refusal.unreadable.refused() or _under_its_key(refusal)
    message: Any = refusal.message
    if message is None:
        return None
    reason = refusal.reason if refusal.reason in _REASONS else CommandRefusal.INVALID_COMMAND
    return CommandRefused(
        command_id=message_id(message),
        command=message.type,
        key=TOPICS[refusal.received.topic].key_of(message),
        reason=CommandRefusal(reason),
        detail=refusal.detail[:MAX_NOTE_CHARS],
    )


def _under_its_key(refusal: Refusal) -> CommandRefused | None:
    """The answer to what can't be told apart, where its sender keyed it by an id. The place of
    the message stands in for its command's id."""
    received = refusal.received
    kind = refusal.unreadable.type if refusal.unreadable else None
    key = (received.key or b"").decode(errors="replace")
    if not is_id(key):
        return None
    return CommandRefused(
        command_id=f"{key}:{received.partition}-{received.offset}",
        command=kind if kind and len(kind) <= MAX_COMMAND_CHARS else UNKNOWN_COMMAND,
        key=key,
        reason=CommandRefusal.INVALID_COMMAND,
        detail=refusal.detail[:MAX_NOTE_CHARS],
    )


assert REUSED in _REASONS
