"""How a command runs, and how it fails: one line on stderr, exit code 1 (2 for a wrong call)."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import asyncpg
from aiokafka.errors import KafkaConnectionError, KafkaError

from orderctl.answering import ANSWER_S, SilentError, while_it_answers
from orderctl.errors import OperatorError
from orderctl.terminal import visible
from shared.audit import InvariantFileError
from shared.database.faults import leaves_pool_stale
from shared.database.migrations import MigrationError
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

USAGE: Final = 2
"""Exit code where the call itself is wrong, as of an unknown option."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""
_BROKER: Final = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]+):(?P<port>[0-9]{1,5})", re.ASCII)
_HELP: Final = "`make status` tells how the stack is, `make up` starts it"

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
        return asyncio.run(while_it_answers(url, work) if url and watched else work)
    except SilentError:
        fail(
            f"the database at {database}{_place(url)} takes connections and doesn't answer within"
            f" {ANSWER_S:g} s; {_HELP}",
            code,
        )
    except (OperatorError, MigrationError, TopicError, InvariantFileError) as error:
        fail(_one_line(error), code)
    except KafkaConnectionError:
        fail(f"no Kafka broker answers at {brokers} (KAFKA_BOOTSTRAP_SERVERS); {_HELP}", code)
    except KafkaError as error:
        fail(f"Kafka at {brokers} (KAFKA_BOOTSTRAP_SERVERS): {_one_line(error)}", code)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = f"{type(error).__name__}: {_one_line(error)}".removesuffix(": ")
        place = f"the database at {database}{_place(url)}"
        if leaves_pool_stale(error):
            fail(f"{place} can't be reached: {reason}; {_HELP}", code)
        fail(f"{place}: {reason}", code)


def note(text: str) -> None:
    """Say something on stderr beside the result."""
    sys.stderr.write(f"orderctl: {visible(text)}\n")


def fail(problem: str, code: int = 1) -> NoReturn:
    """Say what is wrong and end with exit code 1, or another."""
    note(problem)
    sys.exit(code)


def _is_address(url: str) -> bool:
    try:
        port = urlsplit(url).port
    except ValueError:
        return False
    return port is None or port > 0


def _are_brokers(given: str) -> bool:
    found = [_BROKER.fullmatch(one.strip()) for one in given.split(",")]
    return all(one is not None and 0 < int(one["port"]) < 2**16 for one in found)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split("\n"))


def _place(url: str) -> str:
    """Host and port alone: what else an address holds is secret."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return f" ({host})" if host else ""
