"""A database number of its own for each test, on one Valkey or Redis server."""

from __future__ import annotations

import contextlib
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATABASES = range(1, 16)
"""Servers have 16 unless told otherwise. Number 0 holds the claims, and whatever else is there."""
CLAIM_S = 900
"""A claim ends by itself, should its test be killed; longer than any test may run."""


@dataclass(frozen=True, slots=True)
class Valkey:
    """One test's database: empty when the test begins."""

    url: str
    """What services are given as REDIS_URL."""
    client: Redis
    """A client of the test's own; it decodes answers to text."""


@asynccontextmanager
async def claimed_database(url: str, *, within_s: float = 30.0) -> AsyncIterator[Valkey]:
    """Claims a number that no other test uses, on the server at `url`, and flushes it.

    Raises ConditionNotMet where all are claimed for too long.
    """
    async with Redis.from_url(_with_number(url, 0)) as claims:

        async def claim() -> int | None:
            for number in DATABASES:
                if await claims.set(_claim(number), str(os.getpid()), nx=True, ex=CLAIM_S):
                    return number
            return None

        number = await eventually(
            claim,
            within_s=within_s,
            describe="a database number is free",
            accept=lambda number: number is not None,
        )
        assert number is not None
        own_url = _with_number(url, number)
        try:
            async with Redis.from_url(own_url, decode_responses=True) as client:
                await client.flushdb()
                yield Valkey(own_url, client)
        finally:
            # A server that was killed meanwhile has cut the connection; the claim ends by itself.
            with contextlib.suppress(RedisConnectionError):
                await claims.delete(_claim(number))


def _claim(number: int) -> str:
    return f"test-database:{number}"


def _with_number(url: str, number: int) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
