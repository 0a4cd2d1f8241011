"""Transactions that no message caused: timers, admission, an operator's action.

They write through the same outbox and relay as chunks do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from shared import crash_points
from shared.database import Write
from shared.pipeline import outbox
from shared.pipeline.messages import Committed, Outgoing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.database import Connection, Pool
    from shared.pipeline.relay import Relay

_Result = TypeVar("_Result")


class Work:
    """Runs one transaction and hands what it wrote to the relay."""

    def __init__(self, pool: Pool, relay: Relay, *, lease_s: float) -> None:
        """`lease_s` is how long the relay has to publish before another instance may."""
        self._pool = pool
        self._relay = relay
        self._lease_s = lease_s

    async def run(
        self,
        do: Callable[
            [Connection], Awaitable[tuple[_Result, Sequence[Outgoing | Write | Committed]]]
        ],
    ) -> _Result:
        """Do it once; what it raises undoes it. Returns its result, after the commit."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            result, outgoing = await do(connection)
            chunks = await outbox.write_outbox(
                connection,
                [outbox.Row.of(item) for item in outgoing if isinstance(item, Outgoing)],
                [item for item in outgoing if isinstance(item, Write)],
                owner=self._relay.owner,
                lease_s=self._lease_s,
            )
            crash_points.reach("before_commit")
        crash_points.reach("after_commit")
        self._relay.submit(chunks)
        for item in outgoing:
            if isinstance(item, Committed):
                item.do()
        return result
