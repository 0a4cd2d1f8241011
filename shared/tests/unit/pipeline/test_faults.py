"""Whose fault an error is decides between a dead letter and waiting; a wrong answer loses a message
or blocks a partition."""

from __future__ import annotations

import aiokafka.errors
import asyncpg
import pytest
import redis.exceptions
from pydantic import BaseModel, ValidationError

from shared.database import faults
from shared.pipeline import Conflict


class _Number(BaseModel):
    n: int


def _validation_error() -> ValidationError:
    try:
        _Number.model_validate({"n": "x"})
    except ValidationError as error:
        return error
    raise AssertionError


MESSAGE = [
    ValueError("order o-1 is sold"),
    KeyError("P1"),
    ZeroDivisionError(),
    RecursionError(),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"),
    _validation_error(),
    asyncpg.DataError("22000: also what asyncpg raises where it can't encode an argument"),
    asyncpg.CharacterNotInRepertoireError("22021"),
    asyncpg.NumericValueOutOfRangeError("22003"),
    asyncpg.CheckViolationError("23514"),
    asyncpg.UniqueViolationError("23505"),
    asyncpg.NotNullViolationError("23502"),
    asyncpg.ForeignKeyViolationError("23503"),
    asyncpg.ProgramLimitExceededError("54000"),
]

INFRASTRUCTURE = [
    (Conflict("again"), "conflict", False),
    (asyncpg.DeadlockDetectedError(""), "deadlock", False),
    (asyncpg.SerializationError(""), "deadlock", False),
    (asyncpg.LockNotAvailableError(""), "timeout", False),
    (asyncpg.QueryCanceledError(""), "timeout", False),
    (asyncpg.IdleInTransactionSessionTimeoutError(""), "postgres", False),
    (asyncpg.ReadOnlySQLTransactionError(""), "postgres", True),
    (asyncpg.AdminShutdownError(""), "postgres", True),
    (asyncpg.CrashShutdownError(""), "postgres", True),
    (asyncpg.CannotConnectNowError(""), "postgres", True),
    (asyncpg.ConnectionDoesNotExistError(""), "postgres", True),
    (asyncpg.ConnectionFailureError(""), "postgres", True),
    (asyncpg.TooManyConnectionsError(""), "postgres", False),
    (asyncpg.DiskFullError(""), "postgres", False),
    (asyncpg.UndefinedTableError(""), "postgres", False),
    (asyncpg.InsufficientPrivilegeError(""), "postgres", False),
    (asyncpg.InterfaceError("the pool is closing"), "postgres", False),
    (asyncpg.InternalClientError(""), "postgres", True),
    (redis.exceptions.ConnectionError(), "redis", False),
    (redis.exceptions.ReadOnlyError(), "redis", False),
    (aiokafka.errors.KafkaConnectionError(), "kafka", False),
    (aiokafka.errors.OutOfOrderSequenceNumber(), "kafka", False),
    (TimeoutError(), "timeout", False),
    (TimeoutError(110, "the network's"), "timeout", True),
    (ConnectionResetError(), "connection", True),
    (OSError("no space left"), "connection", True),
]


@pytest.mark.parametrize("error", MESSAGE, ids=lambda error: type(error).__name__)
def test_a_fault_of_the_message_is_dead_lettered(error: Exception) -> None:
    assert faults.is_message_fault(error)
    assert not faults.leaves_pool_stale(error)


@pytest.mark.parametrize(
    ("error", "cause", "stale"), INFRASTRUCTURE, ids=lambda value: type(value).__name__
)
def test_a_fault_of_the_infrastructure_is_waited_out(
    error: Exception, cause: str, stale: bool
) -> None:
    assert not faults.is_message_fault(error)
    assert faults.cause(error) == cause
    assert faults.leaves_pool_stale(error) is stale


def test_only_a_broken_constraint_may_be_mended_by_a_reload() -> None:
    constraints = [error for error in MESSAGE if faults.is_constraint(error)]
    assert {type(error).__name__ for error in constraints} == {
        "CheckViolationError", "UniqueViolationError", "NotNullViolationError",
        "ForeignKeyViolationError",
    }  # fmt: skip
    assert not any(faults.is_constraint(error) for error, *_ in INFRASTRUCTURE)


def test_every_error_of_the_wire_is_the_infrastructures() -> None:
    """Over all errors that asyncpg knows: classes 22, 23 and 54 alone are the message's."""
    for kind in vars(asyncpg).values():
        if not (isinstance(kind, type) and issubclass(kind, asyncpg.PostgresError)):
            continue
        state = str(getattr(kind, "sqlstate", None) or "")
        assert faults.is_message_fault(kind("")) == (state[:2] in ("22", "23", "54")), kind
