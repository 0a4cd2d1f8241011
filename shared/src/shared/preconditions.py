"""What must be true before a service takes its first message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from shared import backoff
from shared.database.migrations import MigrationError, pending
from shared.kafka.topics import TopicError, verify_topics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database import Pool
    from shared.kafka.connection import KafkaConnection

_log = get_logger(__name__)

_REFUSED_LOGIN = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_REFUSED_BY_KAFKA = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)


class StartError(Exception):
    """The service can't run as things are; the message says what to do."""


async def wait_until_fit(
    service: str, package: str, pool: Pool, kafka: KafkaConnection, topics: Sequence[str]
) -> None:
    """Wait for Postgres and Kafka as long as it takes; raise `StartError` where what they hold
    doesn't fit this code, because waiting won't mend that."""
    attempt = 0
    while True:
        try:
            async with pool.acquire() as connection:
                waiting = await pending(connection, package)
            if not waiting:
                await _require_topics(kafka, topics)
                return
        except MigrationError as error:
            raise StartError(str(error)) from error
        except _REFUSED_LOGIN as error:
            raise StartError(f"DATABASE_URL is refused: {error}") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError) as error:
            attempt += 1
            await _pause(attempt, error)
        else:
            raise StartError(
                f"the schema of {service} is behind: {', '.join(waiting)}. Run: orderctl migrate"
            )


async def wait_for_topics(kafka: KafkaConnection, topics: Sequence[str]) -> None:
    """Wait for Kafka as long as it takes; raise `StartError` where its topics don't fit this
    code."""
    attempt = 0
    while True:
        try:
            await _require_topics(kafka, topics)
        except (OSError, KafkaError) as error:
            attempt += 1
            await _pause(attempt, error)
        else:
            return


async def _require_topics(kafka: KafkaConnection, topics: Sequence[str]) -> None:
    try:
        await verify_topics(kafka, topics)
    except TopicError as error:
        raise StartError(str(error)) from error
    except _REFUSED_BY_KAFKA as error:
        raise StartError(f"Kafka refuses these credentials: {error}") from error


async def _pause(attempt: int, error: Exception) -> None:
    _log.warning("waiting_for_dependencies", error=str(error)[:200], attempt=attempt)
    await asyncio.sleep(backoff.delay_s(attempt))
