"""What one run of the strategies measures: sizes, and the cells."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import Field

from bench.plan import Yardsticks
from shared.contracts.base import MAX_LINES
from shared.contracts.stock import StockStrategy

STRATEGIES: Final = (StockStrategy.OPTIMISTIC, StockStrategy.PESSIMISTIC, StockStrategy.REDIS)
"""The simplest first: without a lock before the fold, with a queue, with a server more."""


class Contention(StrEnum):
    """How orders meet on products."""

    ONE = "one"
    ZIPF = "zipf"
    UNIFORM = "uniform"


class Supply(StrEnum):
    """Whether there are units enough."""

    ENOUGH = "enough"
    CROWD = "crowd"


class Case(NamedTuple):
    """What an operator finds; the strategy is what they choose."""

    supply: Supply
    contention: Contention


CASES: Final = tuple(Case(supply, contention) for supply in Supply for contention in Contention)


class StockPlan(Yardsticks):
    """Sizes and repeats."""

    commands: int = Field(8_000, ge=20)
    """`ReserveStock` in each backlog."""
    rate: int = Field(400, ge=1, le=100_000)
    """`ReserveStock` a second that arrive, whether or not stock keeps up."""
    arrivals: int = Field(400, ge=20)
    """How many of them."""
    repeats: int = Field(4, ge=1, le=50)
    instances: int = Field(3, ge=1, le=12)
    """Of stock."""
    products: int = Field(100, ge=1, le=MAX_LINES)
    """Of each cell whose orders don't meet on one; one order can have all of them."""
    zipf_exponent: float = Field(1.0, gt=0)
    """The product of rank n is ordered in proportion to n to the power of minus this."""
    orders_per_unit: int = Field(20, ge=2)
    """Of a crowd: all but one of so many are turned away."""
    pgbench_s: int = Field(5, ge=1)
    loop_s: float = Field(0.5, gt=0)

    def weights(self, contention: Contention) -> list[float]:
        """How often each product is ordered, in proportion, the most wanted first."""
        match contention:
            case Contention.ONE:
                return [1.0]
            case Contention.ZIPF:
                return [rank**-self.zipf_exponent for rank in range(1, self.products + 1)]
            case Contention.UNIFORM:
                return [1.0] * self.products

    def title(self, case: Case) -> str:
        """What people call a case: `a crowd for 1 hot product`."""
        supply = {Supply.ENOUGH: "units enough of", Supply.CROWD: "a crowd for"}[case.supply]
        return f"{supply} {self.goods(case.contention)}"

    def goods(self, contention: Contention) -> str:
        """What people call the products of a contention."""
        return {
            Contention.ONE: "1 hot product",
            Contention.ZIPF: f"{self.products} products by Zipf",
            Contention.UNIFORM: f"{self.products} products alike",
        }[contention]
