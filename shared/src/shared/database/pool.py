"""The connection pool of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = (
        asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
    )
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

# A statement of a chunk takes milliseconds; one that takes this long waits for something that
# will not come.
STATEMENT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
ACQUIRE_TIMEOUT_S = 10.0
"""Who waits for a free connection for longer is told so, unless the settings say otherwise."""
LEVEL = "read committed"
"""Of every transaction that names no other, whatever the server's own default is: see
docs/isolation.md."""


class LeanConnection(asyncpg.Connection):
    """A connection that goes back to its pool without a round trip.

    asyncpg resets session state on release. No code here sets any; a transaction that was left
    open is still rolled back.
    """

    def get_reset_query(self) -> str:
        """Nothing to reset."""
        return ""


class BoundedPool(Pool):
    """A pool in which nobody waits for a connection without end, however it is asked."""

    __slots__ = ("_acquire_timeout_s",)

    def __init__(self, dsn: str, *, acquire_timeout_s: float, **options: Any) -> None:
        """`options` are asyncpg's."""
        super().__init__(dsn, **options)
        self._acquire_timeout_s = acquire_timeout_s

    def acquire(self, *, timeout: float | None = None) -> Any:
        """A connection, within `timeout` seconds or those of the pool. Raises TimeoutError."""
        return super().acquire(timeout=self._acquire_timeout_s if timeout is None else timeout)


def connect_pool(
    dsn: str,
    *,
    name: str,
    max_connections: int,
    acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
    connection_class: type[LeanConnection] = LeanConnection,
) -> Pool:
    """Open a pool of at most `max_connections` to `dsn`; `name` shows in pg_stat_activity.

    Who finds all of them taken waits `acquire_timeout_s` at most, and gets TimeoutError then. The
    pool opens connections as they are needed, so a service starts while Postgres is away
    and says so on its readiness probe. Lock and idle timeouts come with the role (see
    `shared.database.migrations`).
    """
    return BoundedPool(
        dsn,
        acquire_timeout_s=acquire_timeout_s,
        connection_class=connection_class,
        record_class=asyncpg.Record,
        loop=None,
        max_queries=50_000,
        min_size=0,
        max_size=max_connections,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        max_inactive_connection_lifetime=300.0,
        server_settings={
            "application_name": name,
            "jit": "off",
            "default_transaction_isolation": LEVEL,
        },
    )
