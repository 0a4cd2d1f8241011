"""What only one instance may do at a time: a row in Postgres, by the database's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database import Queries

if TYPE_CHECKING:
    from shared.database import Pool

_queries = Queries("shared", "database/sql/pipeline.sql")


class Lease:
    """A named lease with a fencing token that rises with each new holder, and when it is told
    that somebody acted late."""

    def __init__(self, pool: Pool, name: str, holder: str, *, lease_s: float) -> None:
        """`lease_s` is how long one `take` lasts; renew well before it ends."""
        self._pool = pool
        self._name = name
        self._holder = holder
        self._lease_s = lease_s

    async def take(self) -> int | None:
        """Take or renew the lease; returns its fencing token, or None while another holds it."""
        async with self._pool.acquire() as connection:
            token = await _queries.take_lease.value(
                connection, name=self._name, holder=self._holder, lease_s=self._lease_s
            )
        return None if token is None else int(token)

    async def acted_late(self) -> None:
        """Raise the token: what this process did may have come after its lease had ended, and the
        holder's next `take` shows it."""
        async with self._pool.acquire() as connection:
            await _queries.raise_lease_token.run(connection, name=self._name)
