"""What the errors of broker and database mean, in words for the person at the terminal."""

from __future__ import annotations

from typing import Final

import asyncpg
from aiokafka.errors import KafkaConnectionError, KafkaError

from orderctl.answering import SilentError
from orderctl.running import one_line
from shared.audit import InvariantFileError
from shared.database.faults import leaves_pool_stale
from shared.database.migrations import MigrationError
from shared.kafka.topics import TopicError

_HELP: Final = "`make status` tells how the stack is, `make up` starts it"


def told(error: Exception, *, database: str, brokers: str) -> str | None:
    """What is wrong, where something outside failed; None where this tool did.

    `database` says where the database is, as `DATABASE_URL (host:port)`; `brokers` are Kafka's
    addresses.
    """
    match error:
        case MigrationError() | TopicError() | InvariantFileError():
            return one_line(error)
        case KafkaConnectionError():
            return f"no Kafka broker answers at {brokers} (KAFKA_BOOTSTRAP_SERVERS); {_HELP}"
        case KafkaError():
            return f"Kafka at {brokers} (KAFKA_BOOTSTRAP_SERVERS): {one_line(error)}"
        case SilentError():
            return f"the database at {database} takes connections and {error}; {_HELP}"
        case OSError() | asyncpg.PostgresError() | asyncpg.InterfaceError():
            reason = f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")
            place = f"the database at {database}"
            if leaves_pool_stale(error):
                return f"{place} can't be reached: {reason}; {_HELP}"
            return f"{place}: {reason}"
    return None
