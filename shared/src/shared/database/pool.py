"""The connection pool of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

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


class LeanConnection(asyncpg.Connection):
    """A connection that goes back to its pool without a round trip.

    asyncpg resets session state on release. No code here sets any; a transaction that was left
    open is still rolled back.
    """

    def get_reset_query(self) -> str:
        """Nothing to reset."""
        return ""


def connect_pool(dsn: str, *, name: str, max_connections: int) -> Pool:
    """Open a pool of at most `max_connections` to `dsn`; `name` shows in pg_stat_activity.

    The pool opens connections as they are needed, so a service starts while Postgres is away
    and says so on its readiness probe. Lock and idle timeouts come with the role (see
    `shared.database.migrations`).
    """
    return asyncpg.create_pool(
        dsn,
        connection_class=LeanConnection,
        min_size=0,
        max_size=max_connections,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        max_inactive_connection_lifetime=300.0,
        server_settings={"application_name": name, "jit": "off"},
    )
