"""What one run measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

STATE = Path(".state/bench")
STOCK_STATE = Path(".state/bench-stock")
COUPON_STATE = Path(".state/bench-coupon")
SETTINGS_STATE = Path(".state/bench-settings")
LOAD_STATE = Path(".state/bench-load")
BOTTLENECKS_STATE = Path(".state/bench-bottlenecks")
REPORTS = Path("loadtest/reports")


Rate = Annotated[int, Field(ge=1, le=100_000)]


class Yardsticks(BaseModel):
    """How the machine's own limits are read."""

    pgbench_s: int = Field(15, ge=1)
    pgbench_scale: int = Field(10, ge=1)
    loop_s: float = Field(1.0, gt=0)
    """How long the loop in Python runs each time."""


class Plan(Yardsticks):
    """Sizes and repeats. Runs of other plans can be compared, and are told to differ."""

    orders: int = Field(20_000, ge=10)
    """In the backlog that is drained."""
    commands: int = Field(60_000, ge=10)
    """`ReserveStock`, in the backlog of stock."""
    rates: tuple[Rate, ...] = (20, 200, 500)
    """Orders a second that arrive, whether or not the system keeps up."""
    seconds: int = Field(10, ge=1)
    """How long they arrive."""
    repeats: int = Field(3, ge=1, le=50)

    @property
    def warm_up_orders(self) -> int:
        """Drained before anything counts."""
        return max(self.orders // 4, 1)
