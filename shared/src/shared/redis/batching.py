"""Commands of many callers in one pipeline: what is asked while one is on its way goes together
with the next. A command alone costs the client as much as twenty in a pipeline."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, RedisError

from shared.redis.connection import RETRIES, RedisAwayError, answer, connect
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_log = get_logger(__name__)

COMMANDS_AT_ONCE: Final = 500


class Batched:
    """Redis for many callers at once. All raise `RedisAwayError`."""

    def __init__(
        self, url: str, package: str, scripts: Iterable[str] = (), *, retries: int = RETRIES
    ) -> None:
        """`scripts` are names of `lua/*.lua` of a package. Connects when it is first used, and
        again after each loss."""
        self._redis = connect(url, retries=retries)
        self._texts = {
            name: (files(package) / f"lua/{name}.lua").read_text("utf-8") for name in scripts
        }
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._texts.items()
        }
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, *command: Any) -> Any:
        """What Redis says to a command; it must bear to be sent twice."""
        return await self.tell(*command)

    def tell(self, *command: Any) -> asyncio.Future[Any]:
        """The same for who doesn't wait: the future ends with what Redis says, or its error."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return future

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script returns; it must bear to be run twice."""
        given = (len(keys), *keys, *arguments)
        try:
            return await self.ask("EVALSHA", self._digests[script], *given)
        except RedisAwayError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        # The server has forgotten it, and may forget it again: the text goes with the call.
        return await self.ask("EVAL", self._texts[script], *given)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._sending is not None:
            await self._sending
        await self._redis.aclose()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                lot = self._waiting[:COMMANDS_AT_ONCE]
                del self._waiting[:COMMANDS_AT_ONCE]
                await self._send(lot)
        finally:
            self._sending = None

    async def _send(self, lot: Sequence[tuple[tuple[Any, ...], asyncio.Future[Any]]]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for command, _ in lot:
            pipeline.execute_command(*command)
        try:
            found: Sequence[Any] = await answer(pipeline.execute(raise_on_error=False))
        except RedisAwayError as error:
            found = [error] * len(lot)
        except Exception as error:  # noqa: BLE001 - a defect; nobody may wait for ever
            _log.error("redis_pipeline_failed", exc_info=error)
            found = [RedisAwayError(f"{type(error).__name__}: {error}")] * len(lot)
        for (_, future), said in zip(lot, found, strict=True):
            if future.done():
                continue  # whoever asked is gone
            if isinstance(said, RedisAwayError):
                future.set_exception(said)
            elif isinstance(said, RedisError):
                away = RedisAwayError(f"{type(said).__name__}: {said}")
                away.__cause__ = said
                future.set_exception(away)
            else:
                future.set_result(said)
