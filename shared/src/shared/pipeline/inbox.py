"""The inbox: which messages were obeyed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncpg import UniqueViolationError

from shared.database import Connection, Queries
from shared.database.faults import Conflict
from shared.pipeline.messages import Delivery, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_queries = Queries("shared", "database/sql/pipeline.sql")

REUSED = "command_id_reused"
ORDER_REUSED = "order_id_reused"


async def remember(
    connection: Connection, deliveries: Sequence[Delivery]
) -> tuple[list[Delivery], list[Refusal]]:
    """Write the ids of a chunk, in key order, and tell new messages from duplicates.

    Returns the deliveries to handle, in their order, with `duplicate` set where (type, id) was
    known with the same fingerprint; and a refusal for each that brings other content under a
    known id. Blocks while another instance's transaction holds one of the ids, and raises
    `Conflict` once that is committed.
    """
    first: dict[tuple[str, str], bytes] = {}
    for delivery in deliveries:
        first.setdefault((delivery.message.type, delivery.message_id), delivery.fingerprint)
    keys = list(first)
    try:
        known = await _queries.remember_messages.rows(
            connection,
            types=[key[0] for key in keys],
            ids=[key[1] for key in keys],
            fingerprints=[first[key] for key in keys],
        )
    except UniqueViolationError as error:
        raise Conflict("another instance took a message of this chunk") from error
    if not known and len(first) == len(deliveries):
        return list(deliveries), []
    first.update({(type_, id_): fingerprint for type_, id_, fingerprint in known})
    return _judge(deliveries, first, first.keys() - {(type_, id_) for type_, id_, _ in known})


async def unknown(connection: Connection, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those whose ids are not in the inbox, each id once: what `remember` will hand on, unless
    another instance takes it first. For those who ask others before the transaction."""
    first: dict[tuple[str, str], Delivery] = {}
    for delivery in deliveries:
        first.setdefault((delivery.message.type, delivery.message_id), delivery)
    known = await _queries.known_messages.rows(
        connection, types=[type_ for type_, _ in first], ids=[id_ for _, id_ in first]
    )
    for row in known:
        del first[row["message_type"], row["message_id"]]
    return list(first.values())


async def forget(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Free the ids of commands that were refused in this same transaction."""
    keys = sorted({(delivery.message.type, delivery.message_id) for delivery in deliveries})
    await _queries.forget_messages.run(
        connection, types=[key[0] for key in keys], ids=[key[1] for key in keys]
    )


def _judge(
    deliveries: Sequence[Delivery],
    fingerprints: dict[tuple[str, str], bytes],
    new: Iterable[tuple[str, str]],
) -> tuple[list[Delivery], list[Refusal]]:
    new = set(new)
    handled: list[Delivery] = []
    reused: list[Refusal] = []
    for delivery in deliveries:
        key = (delivery.message.type, delivery.message_id)
        if fingerprints[key] != delivery.fingerprint:
            reused.append(
                Refusal(
                    delivery.received,
                    ORDER_REUSED if delivery.message.identity == "order_id" else REUSED,
                    f"{key[0]} {key[1]} was sent before with other content; the first one counts."
                    " Send the change under a new id.",
                    delivery.message,
                )
            )
        elif key in new:
            new.discard(key)  # a second copy in the same chunk is a duplicate
            handled.append(delivery)
        else:
            handled.append(delivery._replace(duplicate=True))
    return handled, reused
