"""How a command runs, and how it fails: one line on stderr, exit code 1."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import asyncpg
from aiokafka.errors import KafkaError

from orderctl.errors import OperatorError
from shared.audit import InvariantFileError
from shared.database.migrations import MigrationError
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; ends the process where it fails as something outside may fail."""
    try:
        return asyncio.run(work)
    except (OperatorError, MigrationError, TopicError, InvariantFileError) as error:
        fail(str(error))
    except (OSError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fail(f"{type(error).__name__}: {error}")


def fail(problem: str) -> NoReturn:
    """Say what is wrong and end with exit code 1."""
    sys.stderr.write(f"orderctl: {problem}\n")
    sys.exit(1)
