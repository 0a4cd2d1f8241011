"""A service's Lua scripts as calls, each bounded in time and safe to be asked again."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as SlowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

_T = TypeVar("_T")

ANSWER_WITHIN_S = 0.25
RETRIES = 3
"""Asked again with the same arguments: a script must bear that its reply was lost."""
ALL_WITHIN_S = 1.0


class RedisAwayError(Exception):
    """Redis doesn't answer, or refuses to: out of memory, read-only, loading."""


class Scripts:
    """The files `lua/*.lua` of a package. All raise `RedisAwayError`, within `ALL_WITHIN_S`."""

    def __init__(self, url: str, package: str, names: Iterable[str]) -> None:
        """Connects when it is first used, and again after each loss."""
        self._redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            retry=Retry(
                ExponentialBackoff(cap=0.1, base=0.01),
                RETRIES,
                supported_errors=(LostError, SlowError),
            ),
        )
        self._texts = {
            name: (files(package) / f"lua/{name}.lua").read_text("utf-8") for name in names
        }
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._texts.items()
        }

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script; returns what it returns."""
        return await self._answer(self._evaluate(name, keys, arguments))

    async def probe(self, key: str) -> None:
        """Whether Redis answers, and takes writes: `key` is written, for a minute."""
        await self._answer(self._redis.set(key, "", ex=60))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def _evaluate(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        given = (len(keys), *keys, *arguments)
        try:
            return await self._redis.evalsha(self._digests[name], *given)
        except NoScriptError:
            # The server has forgotten it, and may forget it again: the text goes with the call.
            return await self._redis.eval(self._texts[name], *given)

    async def _answer(self, asked: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(ALL_WITHIN_S):
                return await asked
        except (RedisError, OSError) as error:
            raise RedisAwayError(f"{type(error).__name__}: {error}") from error
