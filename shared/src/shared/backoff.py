"""How long to wait between attempts."""

from __future__ import annotations

import random

FIRST_S = 0.05
LONGEST_S = 5.0


def delay_s(attempt: int, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """Seconds before the attempt after failed attempt number `attempt` (from 1).

    Doubles from `first_s` to `longest_s`, and half of it is chance, so that those who failed
    together don't try again together.
    """
    upper: float = min(longest_s, first_s * 2.0 ** min(attempt - 1, 32))
    return upper * (0.5 + random.random() / 2)
