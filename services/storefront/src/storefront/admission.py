"""How many orders are under way at once, and who goes next where more want to (F62).

Beyond `at_once` new orders wait at the door, outside of the system: what is inside stays fast, and
what is begun is finished first, so that payments never wait here. The newest goes next, and whoever
has waited for `PATIENCE_S` before the newest: under overload most are served at once and some late,
where first come, first served would serve everybody late. Who waits for too long, or finds too many
waiting, is told to come again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from storefront.metrics import AT_THE_DOOR, TURNED_AWAY, UNDER_WAY
from storefront.problems import ProblemError, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_S: Final = 6.0
"""Who has waited for so long goes next."""
DOOR_S: Final = 10.0
"""Nobody waits longer."""


class _Waiting(NamedTuple):
    since_s: float
    turn: asyncio.Future[None]


class Admission:
    """Counts what is under way, and keeps those who wait."""

    def __init__(self, at_once: int, waiting_at_most: int) -> None:
        """`at_once` are under way at most, beside what is let in without waiting."""
        self._at_once = at_once
        self._waiting_at_most = waiting_at_most
        self._under_way = 0
        self._waiting: deque[_Waiting] = deque()

    @asynccontextmanager
    async def admitted(self, *, at_door: bool) -> AsyncIterator[None]:
        """Hold a place; what begins something new waits `at_door` for it. Raises ProblemError
        (503)."""
        if at_door and (self._under_way >= self._at_once or self._waiting):
            await self._turn()
        else:
            self._enter()
        try:
            yield
        finally:
            self._under_way -= 1
            self._let_in()
            UNDER_WAY.set(self._under_way)

    async def _turn(self) -> None:
        """Wait for a place, which is held then."""
        if len(self._waiting) >= self._waiting_at_most:
            raise _overloaded("full", "too many wait already")
        loop = asyncio.get_running_loop()
        mine = _Waiting(loop.time(), loop.create_future())
        self._waiting.append(mine)
        AT_THE_DOOR.set(len(self._waiting))
        try:
            async with asyncio.timeout(DOOR_S):
                await mine.turn
        except BaseException as error:
            if mine.turn.done() and not mine.turn.cancelled():
                self._under_way -= 1  # it came in the same moment
                self._let_in()
            elif mine in self._waiting:
                self._waiting.remove(mine)
            if isinstance(error, TimeoutError):
                raise _overloaded("late", f"no place was free for {DOOR_S:g} s") from None
            raise

    def _let_in(self) -> None:
        now_s = asyncio.get_running_loop().time()
        while self._waiting and self._under_way < self._at_once:
            is_late = now_s - self._waiting[0].since_s >= PATIENCE_S
            following = self._waiting.popleft() if is_late else self._waiting.pop()
            if not following.turn.done():
                self._enter()
                following.turn.set_result(None)
        AT_THE_DOOR.set(len(self._waiting))

    def _enter(self) -> None:
        self._under_way += 1
        UNDER_WAY.set(self._under_way)


def _overloaded(why: str, detail: str) -> ProblemError:
    TURNED_AWAY.labels(why).inc()
    return unavailable(f"{detail}; try again", reason="overloaded")
