"""A database that falls silent: it takes connections, and answers nobody.

A statement's time limit is the server's to keep, so a server that is frozen keeps nothing. Whether
it still answers is asked beside the work, on a connection of its own each time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

ANSWER_S: Final = 10.0
"""How long a database may take to let somebody in and answer."""
ASK_EVERY_S: Final = 5.0
_CANCEL_EVERY_S: Final = 0.1


class SilentError(Exception):
    """The database doesn't answer within `ANSWER_S` seconds."""


async def while_it_answers(dsn: str, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which asks the database at `dsn`. Raises SilentError, beside its own.

    A database that refuses is not silent: of that the work itself hears.
    """
    working = asyncio.create_task(work)
    listening = asyncio.create_task(_until_silent(dsn))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        listening.result()
        raise SilentError(f"doesn't answer within {ANSWER_S:g} s")
    finally:
        await _end(listening)
        await _end(working)


async def _until_silent(dsn: str) -> None:
    while True:
        await asyncio.sleep(ASK_EVERY_S)
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await asyncpg.connect(
                    dsn, server_settings={"application_name": "answering"}
                )
                try:
                    await connection.fetchval("SELECT 1")
                finally:
                    connection.terminate()
        except TimeoutError:
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancelled until it ends: each wait on the way out, as for a ROLLBACK, is for the same silent
    server, and takes a cancelling of its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_CANCEL_EVERY_S)
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio doesn't log it
