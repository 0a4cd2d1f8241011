"""Commands of many callers in one pipeline: what is asked while one is on its way goes together
with the next. A command alone costs the client as much as twenty in a pipeline.

Where Redis is lost all who wait are told at once, and for a moment whoever asks then: nobody waits
behind others for the same answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, RedisError

from shared.redis.connection import RETRIES, RedisAwayError, answer, connect
from shared.redis.texts import Texts
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_log = get_logger(__name__)

COMMANDS_AT_ONCE: Final = 500
COMMANDS_WAITING: Final = 10_000
ANSWER_WITHIN_S: Final = 1.0
ALL_WITHIN_S: Final = 3.0
"""For a lot, however often it is sent. Longer than others wait: whoever asks holds no lock, and a
process that is late because it has much to do is no Redis that is away."""
REST_S: Final = 0.5
"""After Redis was lost nobody is sent to it for so long: who asks meanwhile is told at once."""


class Batched:
    """Redis for many callers at once. All raise `RedisAwayError`."""

    def __init__(
        self, url: str, package: str, scripts: Iterable[str] = (), *, retries: int = RETRIES
    ) -> None:
        """`scripts` are names of `lua/*.lua` of a package. Connects when it is first used, and
        again after each loss."""
        self._redis = connect(url, retries=retries, answer_within_s=ANSWER_WITHIN_S)
        self._texts = Texts(package, scripts)
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._rests_until_s = 0.0

    async def ask(self, *command: Any) -> Any:
        """What Redis says to a command; it must bear to be sent twice."""
        return await self.tell(*command)

    def tell(self, *command: Any) -> asyncio.Future[Any]:
        """The same for who doesn't wait: the future ends with what Redis says, or its error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if loop.time() < self._rests_until_s:
            future.set_exception(RedisAwayError("it was lost a moment ago"))
            return future
        if len(self._waiting) >= COMMANDS_WAITING:
            future.set_exception(RedisAwayError(f"{COMMANDS_WAITING} commands wait already"))
            return future
        self._waiting.append((command, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return future

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script returns; it must bear to be run twice."""
        given = (len(keys), *keys, *arguments)
        try:
            return await self.ask("EVALSHA", self._texts.digest(script), *given)
        except RedisAwayError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        # The server has forgotten it, and may forget it again: the text goes with the call.
        return await self.ask("EVAL", self._texts.text(script), *given)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._sending is not None:
            await self._sending
        await self._redis.aclose()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                lot = [one for one in self._waiting[:COMMANDS_AT_ONCE] if not one[1].done()]
                del self._waiting[:COMMANDS_AT_ONCE]
                try:
                    await self._send(lot)
                except RedisAwayError as error:
                    # whoever waits behind them would wait as long again, and hear the same
                    self._rests_until_s = asyncio.get_running_loop().time() + REST_S
                    lost, self._waiting = [*lot, *self._waiting], []
                    for _, future in lost:
                        if not future.done():
                            future.set_exception(error)
        finally:
            self._sending = None

    async def _send(self, lot: Sequence[tuple[tuple[Any, ...], asyncio.Future[Any]]]) -> None:
        """Send commands, and tell whoever asked. Raises RedisAwayError where nobody is told."""
        pipeline = self._redis.pipeline(transaction=False)
        for command, _ in lot:
            pipeline.execute_command(*command)
        try:
            found: Sequence[Any] = await answer(
                pipeline.execute(raise_on_error=False), ALL_WITHIN_S
            )
        except RedisAwayError:
            raise
        except Exception as error:
            _log.exception("redis_pipeline_failed")  # a defect; nobody may wait for ever
            raise RedisAwayError(f"{type(error).__name__}: {error}") from error
        for (_, future), said in zip(lot, found, strict=True):
            if future.done():
                continue  # whoever asked is gone
            if isinstance(said, RedisError):
                away = RedisAwayError(f"{type(said).__name__}: {said}")
                away.__cause__ = said
                future.set_exception(away)
            else:
                future.set_result(said)
