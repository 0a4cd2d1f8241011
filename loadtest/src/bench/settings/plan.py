"""What one run of the settings measures: the values that are put side by side, and sizes."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from bench.plan import Yardsticks

Count = Annotated[int, Field(ge=0, le=5_000)]

POOLS: Final = (4, 8, 16, 50, 200)
RETRIES: Final = (0, 3, 10)
CALLS: Final = (10, 32, 128, 512)
PAUSES_S: Final = (0.1, 0.5, 1.0, 3.0)


class SettingsPlan(Yardsticks):
    """Sizes and repeats."""

    pools: tuple[Count, ...] = POOLS
    """Connections of a pool."""
    retries: tuple[Count, ...] = RETRIES
    """Of one question to Redis."""
    calls: tuple[Count, ...] = CALLS
    """Requests to the gateway at once."""
    pauses_s: tuple[float, ...] = PAUSES_S
    """Before a request to the gateway is made again."""
    transactions: int = Field(3_000, ge=200)
    """Through each pool."""
    questions: int = Field(1_500, ge=20)
    """To Redis."""
    charges: int = Field(300, ge=20)
    """By the gateway, in each backlog, and half as many that arrive."""
    repeats: int = Field(1, ge=1, le=50)
    pgbench_s: int = Field(5, ge=1)
    loop_s: float = Field(0.5, gt=0)
