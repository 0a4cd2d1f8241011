"""When the gateway is left alone: a circuit breaker with one probe, and a budget of retries. Pure:
the clock's reading comes in as seconds.

    CLOSED ── most of the last calls failed ──▶ OPEN ── after a pause ──▶ HALF_OPEN, one probe
       ▲                                          ▲                          │
       └───────────── it succeeds ────────────────│─── it fails: twice the pause ───┘
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Final

WINDOW: Final = 40
"""The last so many calls are looked at."""
FAILED_AT_MOST: Final = 0.6
"""Of them. A gateway that loses a quarter of its answers is worth asking."""
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 15.0
PROBE_LOST_AFTER_S: Final = 30.0
"""A probe that was never heard of again is given up."""


class BreakerState(StrEnum):
    """Whether calls go out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Lets calls through while they succeed."""

    def __init__(self) -> None:
        """Closed."""
        self.state = BreakerState.CLOSED
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)
        self._pause_s = FIRST_PAUSE_S
        self._changed_at_s = 0.0
        self._probing = False
        self._round = 0
        """Counts the changes: an answer is news only of the round in which its call began."""

    def room(self, now_s: float) -> int | None:
        """How many calls may begin; None: any number."""
        waited_s = now_s - self._changed_at_s
        match self.state:
            case BreakerState.CLOSED:
                return None
            case BreakerState.OPEN:
                return 0 if waited_s < self._pause_s else 1
            case BreakerState.HALF_OPEN:
                return 1 if not self._probing or waited_s > PROBE_LOST_AFTER_S else 0

    def enter(self, now_s: float) -> int | None:
        """The call may begin, and `leave` must be told of it with this number; None: it may not."""
        room = self.room(now_s)
        if room == 0:
            return None
        if room is not None:
            self._change(BreakerState.HALF_OPEN, now_s)
            self._probing = True
        return self._round

    def leave(self, begun_in: int, now_s: float, *, is_failure: bool) -> None:
        """How the call went that began as `enter` said. What began before the last change is no
        news: it tells of how the gateway was, and is no probe."""
        if begun_in != self._round:
            return
        match self.state:
            case BreakerState.CLOSED:
                self._outcomes.append(is_failure)
                if len(self._outcomes) == WINDOW and sum(self._outcomes) > FAILED_AT_MOST * WINDOW:
                    self._open(now_s, FIRST_PAUSE_S)
            case BreakerState.HALF_OPEN if is_failure:
                self._open(now_s, min(2 * self._pause_s, LONGEST_PAUSE_S))
            case BreakerState.HALF_OPEN:
                self._change(BreakerState.CLOSED, now_s)
            case BreakerState.OPEN:
                pass

    def _open(self, now_s: float, pause_s: float) -> None:
        self._change(BreakerState.OPEN, now_s)
        self._pause_s = pause_s
        self._outcomes.clear()

    def _change(self, state: BreakerState, now_s: float) -> None:
        self.state, self._changed_at_s, self._probing = state, now_s, False
        self._round += 1


class RetryBudget:
    """How many calls may be made again: a steady number, and a share of those that are new. A
    gateway that fails is not asked several times as much for it."""

    SHARE: Final = 0.5
    """Of new calls."""
    SAVED_S: Final = 2.0
    """What is not used is saved for so long."""

    def __init__(self, per_s: float) -> None:
        """`per_s` retries are allowed each second, whatever is new."""
        self._per_s = per_s
        self._left = per_s
        self._at_s: float | None = None

    def room(self, now_s: float) -> int:
        """How many retries may begin."""
        if self._at_s is not None:
            self._left += (now_s - self._at_s) * self._per_s
        self._at_s = now_s
        self._left = min(self._left, max(self._per_s * self.SAVED_S, 1.0))
        return int(self._left)

    def spend(self, *, retries: int, news: int) -> None:
        """So many began."""
        self._left += self.SHARE * news - retries
