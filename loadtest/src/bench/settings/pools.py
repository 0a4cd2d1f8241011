"""Many who want a connection at once, and pools of several sizes."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.latencies import counted
from bench.settings.record import PoolRepeat
from bench.usage import OWN, POSTGRES
from shared.database import connect_pool
from shared.pipeline import outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.phases import Ground
    from shared.database import Pool

TASKS: Final = 200
"""Who want a connection at the same time, as requests of a storefront do."""
OWNER: Final = "bench-settings"
LEASE_S: Final = 3_600.0
"""Longer than any run: no sweeper publishes what is written here."""
PATIENCE_S: Final = 60.0
ROW: Final = outbox.Row("payment.replies.v1", b"o", "Measured", "measured", b"{}", "")


async def measure_pool(ground: Ground, connections: int, transactions: int) -> PoolRepeat:
    """So many transactions, each a look and a chunk for the outbox, as an operator's action is."""
    dsn = ground.stack.env().database_url_of("payment")
    took_ms: list[float] = []
    refused = 0
    left = iter(range(transactions))
    async with connect_pool(
        dsn, name=OWNER, max_connections=connections, acquire_timeout_s=PATIENCE_S
    ) as pool:

        async def work(turns: Iterator[int]) -> None:
            nonlocal refused
            for _ in turns:
                began_s = time.perf_counter()
                try:
                    await _transact(pool)
                except asyncpg.TooManyConnectionsError:
                    refused += 1
                else:
                    took_ms.append((time.perf_counter() - began_s) * 1000)

        # connections are opened before it counts, as those of a service are
        await asyncio.gather(*(work(iter(range(2))) for _ in range(TASKS)))
        took_ms.clear()
        refused = 0
        async with ground.meter.reading(None):
            start = time.time()
            await asyncio.gather(*(work(left) for _ in range(TASKS)))
            end = time.time()
        memory = ground.meter.memory()[POSTGRES]
    used = ground.meter.usage(start, end).cpu_s
    await ground.database.execute("DELETE FROM payment.outbox WHERE owner = $1", OWNER)
    done = max(len(took_ms), 1)
    return PoolRepeat(
        connections=connections,
        per_second=len(took_ms) / (end - start),
        cpu_ms=(used[OWN] + used[POSTGRES]) / done * 1000,
        latency_ms=counted(took_ms),
        memory_bytes=memory,
        refused=refused,
    )


_numbers = count()


async def _transact(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetchval(
            "SELECT 1 FROM inbox WHERE message_id = $1", f"measured-{next(_numbers)}"
        )
        await outbox.write_outbox(connection, [ROW], owner=OWNER, lease_s=LEASE_S)
