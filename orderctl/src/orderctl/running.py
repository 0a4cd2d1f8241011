"""How a command runs, and how it fails: one line on stderr, exit code 1 (2 for a wrong call)."""

from __future__ import annotations

import asyncio
import getpass
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

from orderctl.errors import OperatorError
from orderctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

USAGE: Final = 2
"""Exit code where the call itself is wrong, as of an unknown option."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""
_BROKER: Final = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]+):(?P<port>[0-9]{1,5})", re.ASCII)

# What its clients say meanwhile is told once, by `run`; without a handler it would go to stderr.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def run(
    work: Coroutine[Any, Any, T],
    *,
    database: str = "DATABASE_URL",
    url: str = "",
    brokers: str = "",
    code: int = 1,
    watched: bool = True,
) -> T:
    """The result of `work`; ends the process where it fails as something outside may fail.

    `database` is the variable with the database's address `url`; `brokers` are Kafka's addresses;
    `code` is the exit code then. Where it is `watched`, a database that falls silent ends it too.
    """
    if not _is_address(url):
        work.close()
        # Its parts are not told: what stands in the wrong place may be the password.
        fail(
            f"{database} can't be read as an address; write what is special in a password as %XX,"
            " as %2F for /",
            code,
        )
    if brokers and not _are_brokers(brokers):
        work.close()
        fail(
            "KAFKA_BOOTSTRAP_SERVERS can't be read as addresses; write host:port, and a comma"
            " between two of them",
            USAGE,
        )
    try:
        if url and watched:
            # Imported now: it knows the database's client, and a command has loaded but its own.
            from orderctl.answering import while_it_answers

            return asyncio.run(while_it_answers(url, work))
        return asyncio.run(work)
    except OperatorError as error:
        fail(one_line(error), code)
    except Exception as error:
        # Imported now, likewise.
        from orderctl.failures import told

        problem = told(error, database=f"{database}{_place(url)}", brokers=brokers)
        if problem is None:
            raise
        fail(problem, code)


def note(text: str) -> None:
    """Say something on stderr beside the result."""
    sys.stderr.write(f"orderctl: {visible(text)}\n")


def fail(problem: str, code: int = 1) -> NoReturn:
    """Say what is wrong and end with exit code 1, or another."""
    note(problem)
    sys.exit(code)


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split("\n"))


def operator_of(given: str) -> str:
    """Who acts; ends the process where nobody is named and nobody is logged in."""
    try:
        return given or getpass.getuser()
    except (KeyError, OSError):
        fail("who acts can't be told: say --operator NAME (ORDERCTL_OPERATOR)", USAGE)


def _is_address(url: str) -> bool:
    try:
        port = urlsplit(url).port
    except ValueError:
        return False
    return port is None or port > 0


def _are_brokers(given: str) -> bool:
    found = [_BROKER.fullmatch(one.strip()) for one in given.split(",")]
    return all(one is not None and 0 < int(one["port"]) < 2**16 for one in found)


def _place(url: str) -> str:
    """Host and port alone: what else an address holds is secret."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return f" ({host})" if host else ""
