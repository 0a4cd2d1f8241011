"""The SQLite file, and transactions that many requests share.

A request's step is whole or not at all (a savepoint). The steps of all requests that are at hand
are committed together, and none of them is answered before that. The file outlives a kill of the
process at any moment; it isn't synced with the disk at each commit, so a loss of power may cost
the last moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

_BUSY_TIMEOUT_S = 5.0
_STATEMENTS_KEPT = 128
_TAG_BYTES = 4


class Store:
    """One connection to the book's file. To be used from the event loop's thread alone."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it where it is missing. Raises sqlite3.Error, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._connection = sqlite3.connect(
            path,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            cached_statements=_STATEMENTS_KEPT,
        )
        self._waiting: list[asyncio.Future[None]] = []
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._prepare()
        self.tag: str = self.value("SELECT value FROM about WHERE name = 'tag'")
        """Stands in every id of this book, so that ids of two books never meet."""

    def _prepare(self) -> None:
        if self.value("SELECT count(*) FROM sqlite_master WHERE name = 'about'"):
            return
        schema = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        tag = secrets.token_hex(_TAG_BYTES)
        # one transaction: a kill in the middle leaves an empty file, and the next start begins anew
        self._connection.executescript(
            f"BEGIN IMMEDIATE; {schema} INSERT INTO about VALUES ('tag', '{tag}'); COMMIT;"  # noqa: S608
        )

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement. Raises sqlite3.Error."""
        return self._connection.execute(statement, values)

    def value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, None where there is none."""
        row = self._connection.execute(statement, values).fetchone()
        return None if row is None else row[0]

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Statements that take effect together, or not at all where an error passes through."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("SAVEPOINT step")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO step")
            raise
        finally:
            self._connection.execute("RELEASE step")

    async def do(self, work: Callable[[], T]) -> T:
        """Run `work` as a step, and return what it returns once that is stored.

        Whatever `work` has read is stored by then as well. Raises what `work` raises, and
        sqlite3.Error where the commit failed: then no step of the transaction took effect.
        """
        loop = asyncio.get_running_loop()
        stored = loop.create_future()
        if not self._waiting:
            # everybody whose request has arrived by now comes first
            loop.call_soon(self._commit)
        self._waiting.append(stored)
        try:
            with self.step():
                result = work()
        except Exception:
            await stored  # what the refusal is founded on may be a step of somebody else's
            raise
        await stored
        return result

    def commit(self) -> None:
        """Store all steps so far. Raises sqlite3.Error, with none of them in effect."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        error: sqlite3.Error | None = None
        try:
            self.commit()
        except sqlite3.Error as failure:
            error = failure
        for stored in waiting:
            if stored.cancelled():
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)

    def close(self) -> None:
        """Store what is at hand and let go of the file."""
        self.commit()
        self._connection.close()
