"""A service's Lua scripts as calls, each bounded in time and safe to be asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from shared.redis.connection import RETRIES, answer, connect
from shared.redis.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Scripts:
    """The files `lua/*.lua` of a package. All raise `RedisAwayError`, within `ALL_WITHIN_S`."""

    def __init__(
        self, url: str, package: str, names: Iterable[str], *, retries: int = RETRIES
    ) -> None:
        """Connects when it is first used, and again after each loss; `retries` as in `connect`."""
        self._redis = connect(url, retries=retries)
        self._texts = Texts(package, names)

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script; returns what it returns."""
        return await answer(self._evaluate(name, keys, arguments))

    async def probe(self, key: str) -> None:
        """Whether Redis answers, and takes writes: `key` is written, for a minute."""
        await answer(self._redis.set(key, "", ex=60))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def _evaluate(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        given = (len(keys), *keys, *arguments)
        try:
            return await self._redis.evalsha(self._texts.digest(name), *given)
        except NoScriptError:
            # The server has forgotten it, and may forget it again: the text goes with the call.
            return await self._redis.eval(self._texts.text(name), *given)
