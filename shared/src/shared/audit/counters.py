"""Invariant 9 over Redis: the counters there are what the rows in Postgres say.

A service that keeps counters brings `sql/counters.sql`, with named queries that return for each
counter its `key`, and in `fields` what of the hash at that key must be so.
"""

from __future__ import annotations

import asyncio
import json
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.audit.report import VIOLATIONS_LISTED, Check, Moment
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.audit.invariants import Source

FILE: Final = "sql/counters.sql"
KEYS_AT_ONCE: Final = 1_000
ANSWER_WITHIN_S: Final = 5.0
MENDED_WITHIN_S: Final = 10.0
"""A counter that lost what it should have followed is written anew within a few seconds, by the
service itself: until then it is no violation."""
POLL_S: Final = 0.25

CHECK: Final = Check(
    "redis_counters_equal_postgres",
    "redis",
    9,
    Moment.AT_REST,
    "the counters in Redis equal Postgres",
)


async def check_counters(dsn: str, redis_url: str, sources: Iterable[Source]) -> Check:
    """Compare all counters of `sources` with their rows. `dsn` is the operator's.

    Raises the errors of the database; where Redis does not answer, the check says so.
    """
    started_at = time.monotonic()
    redis = Redis.from_url(
        redis_url,
        decode_responses=True,
        socket_timeout=ANSWER_WITHIN_S,
        socket_connect_timeout=ANSWER_WITHIN_S,
    )
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "audit"})
    try:
        while True:
            looked_at, wrong = 0, []
            for source in sources:
                expected = await _expected(connection, source)
                looked_at += len(expected)
                wrong += await _differing(redis, expected)
            if not wrong or time.monotonic() - started_at > MENDED_WITHIN_S:
                return CHECK.found(wrong, started_at, looked_at=looked_at)
            await asyncio.sleep(POLL_S)
    except (RedisError, OSError) as error:
        place = urlsplit(redis_url)
        return CHECK.unchecked(
            f"Redis at REDIS_URL ({place.hostname}:{place.port}) can't be asked:"
            f" {type(error).__name__}; docs/runbooks/lost-redis.md"
        )
    finally:
        await redis.aclose()
        await connection.close()


async def _expected(
    connection: asyncpg.Connection[asyncpg.Record], source: Source
) -> list[tuple[str, dict[str, str]]]:
    """Key and fields of each counter that the source's service keeps."""
    if source.schema is None or not files(source.package).joinpath(FILE).is_file():
        return []
    async with connection.transaction(readonly=True):
        await connection.execute("SELECT set_config('search_path', $1, true)", f'"{source.schema}"')
        return [
            (row["key"], json.loads(row["fields"]))
            for query in Queries(source.package, FILE)
            for row in await query.rows(connection)
        ]


async def _differing(
    redis: Redis, expected: Sequence[tuple[str, Mapping[str, str]]]
) -> list[dict[str, Any]]:
    wrong: list[dict[str, Any]] = []
    for start in range(0, len(expected), KEYS_AT_ONCE):
        some = expected[start : start + KEYS_AT_ONCE]
        pipeline = redis.pipeline(transaction=False)
        for key, fields in some:
            pipeline.hmget(key, list(fields))
        for (key, fields), found in zip(
            some, await pipeline.execute(raise_on_error=False), strict=True
        ):
            # What is no counter at all, as a key of another type, is an error of its own.
            there = (
                str(found)
                if isinstance(found, RedisError)
                else dict(zip(fields, found, strict=True))
            )
            if there != fields and len(wrong) <= VIOLATIONS_LISTED:
                wrong.append({"key": key, "redis": there, "postgres": dict(fields)})
    return wrong
