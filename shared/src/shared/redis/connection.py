"""How a service reaches Redis: each answer within a bound, asked again where it was lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as SlowError

if TYPE_CHECKING:
    from collections.abc import Awaitable

_T = TypeVar("_T")

ANSWER_WITHIN_S = 0.25
RETRIES = 3
"""Asked again with the same arguments, unless the settings say otherwise (`REDIS_RETRIES`): what is
asked must bear that its reply was lost."""
ALL_WITHIN_S = 1.0
"""However often it is asked again: whoever waits holds no lock, and goes on without Redis then."""


class RedisAwayError(Exception):
    """Redis doesn't answer, or refuses to: out of memory, read-only, loading."""


def connect(url: str, *, retries: int = RETRIES, answer_within_s: float = ANSWER_WITHIN_S) -> Redis:
    """A client that connects when it is first used, and again after each loss. A question whose
    answer was lost, or didn't come in `answer_within_s`, is asked `retries` times more."""
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=answer_within_s,
        socket_connect_timeout=answer_within_s,
        retry=Retry(
            ExponentialBackoff(cap=0.1, base=0.01),
            retries,
            supported_errors=(LostError, SlowError),
        ),
    )
    return client


async def answer(asked: Awaitable[_T], within_s: float = ALL_WITHIN_S) -> _T:
    """What Redis says. Raises `RedisAwayError`, within `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except (RedisError, OSError) as error:
        raise RedisAwayError(f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:
        # what uvloop says of a connection that was cut since it was used last
        if "is closed" not in str(error):
            raise
        raise RedisAwayError(str(error)) from error
