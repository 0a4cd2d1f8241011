"""Whose fault an error is: the message's, or the infrastructure's.

A fault of the message is found by halving the chunk, and dead-lettered. All else is retried
without end while the partition waits, because skipping would lose a good message.
"""

from __future__ import annotations

import asyncpg
from aiokafka.errors import KafkaError


class Conflict(Exception):  # noqa: N818 - the field's own word
    """Another instance was faster: run the chunk again from the start."""


_INFRASTRUCTURE = (
    Conflict,
    OSError,  # ConnectionError and TimeoutError among them
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    KafkaError,
)

# The server that the connection was made to is gone or read-only now: every pooled connection is.
_STALE_CLASSES = ("08",)
_STALE_STATES = ("25006", "57P01", "57P02", "57P03", "57P05")


def is_message_fault(error: BaseException) -> bool:
    """Tell whether the message itself is at fault: bad data (22), a broken constraint (23), a
    size over the server's limits (54), or any error that is not the infrastructure's, which is
    what a fold raises."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error)[:2] in ("22", "23", "54")
    return not isinstance(error, _INFRASTRUCTURE) and not _is_redis(error)


def is_constraint(error: BaseException) -> bool:
    """Tell whether a constraint was broken, which a reload may mend."""
    return isinstance(error, asyncpg.PostgresError) and sqlstate(error)[:2] == "23"


def leaves_pool_stale(error: BaseException) -> bool:
    """Tell whether the pool's other connections are useless too, as after a fail-over."""
    if isinstance(error, asyncpg.PostgresError):
        state = sqlstate(error)
        return state[:2] in _STALE_CLASSES or state in _STALE_STATES
    if isinstance(error, TimeoutError) and error.errno is None:
        return False  # asyncio's own: a busy pool or a slow statement, and not the network's
    # asyncpg raises its own error where a connection is cut in the midst of an exchange
    return isinstance(error, OSError | asyncpg.InternalClientError)


def cause(error: BaseException) -> str:
    """A short word for a metric's label: closed, without ids."""
    if isinstance(error, Conflict):
        return "conflict"
    if is_constraint(error):
        return "constraint"
    if isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return "deadlock"
    if isinstance(error, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError):
        return "timeout"
    if isinstance(
        error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError
    ):
        return "postgres"
    if _is_redis(error):
        return "redis"
    if isinstance(error, KafkaError):
        return "kafka"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "connection" if isinstance(error, OSError) else "message"


def sqlstate(error: asyncpg.PostgresError) -> str:
    """The five characters of an error's SQLSTATE, empty where the server gave none."""
    return str(getattr(error, "sqlstate", None) or "")


def _is_redis(error: BaseException) -> bool:
    """By name: whoever doesn't speak to it need not load its client, half a second's work."""
    return any(
        (kind.__module__, kind.__name__) == ("redis.exceptions", "RedisError")
        for kind in type(error).__mro__
    )
