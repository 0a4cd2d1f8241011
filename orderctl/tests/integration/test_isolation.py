"""`orderctl drain` looks at several tables: in one view of them nothing slips through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from orderctl.draining import Look, _stored, queries
from shared.testing.interleaving import Level, stopping_pool

if TYPE_CHECKING:
    from shared.testing.databases import Database

PARKED = (
    "INSERT INTO orders.parked_command (order_id, command_type, command_id, body, traceparent)"
    " VALUES ('o-1', 'PayOrder', 'o-1:pay', '{}', '')"
)
STARTED = """
DELETE FROM orders.parked_command;
INSERT INTO orders.saga (order_id, user_id, fingerprint, fingerprint_version, accepted_at, placed,
                         definition_version, state, version, waiting, progress, history)
VALUES ('o-1', 'u1', decode(repeat('ab', 16), 'hex'), 1, now(), '{}', 1, 'RESERVING', 1, true,
        '{}', '');
"""


async def look(database: Database, level: Level | None) -> Look:
    """While an order comes for which a payment was parked: the payment goes into the order."""
    async with database.connection() as admin:
        await admin.execute(PARKED)
        dsn, after = database.operator_dsn, queries.sagas_under_way
        async with stopping_pool(dsn, after=after, level=level) as (pool, gate):

            async def stored() -> Look:
                async with pool.acquire() as connection:
                    return await _stored(cast("Any", connection))

            looking = asyncio.create_task(stored())
            await gate.reached()
            await admin.execute(STARTED)
            gate.open()
            return await looking


async def test_at_read_committed_an_order_slips_from_one_table_to_another(
    database: Database,
) -> None:
    found = await look(database, "read_committed")
    assert (found.sagas, found.parked["commands"]) == ([], 0)


async def test_ours_is_of_one_moment(database: Database) -> None:
    found = await look(database, None)
    assert (found.sagas, found.parked["commands"]) == ([], 1)
