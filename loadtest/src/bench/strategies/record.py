"""The raw figures of one run of the strategies, as they lie in its JSON file."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bench.record import Repeat, RunRecord
from bench.strategies.plan import Case, Contention, StockPlan, Supply
from shared.contracts.stock import StockStrategy


class Tally(BaseModel):
    """What the instances of stock counted of themselves, all together."""

    chunks: int
    """Of commands that were committed."""
    conflicts: int
    """Chunks that were folded again."""
    locks: int
    """Times that a chunk asked for the locks of its products."""
    lock_s: float
    """Seconds from asking to having them, of all those times."""
    turned_away: int
    """Orders that a counter turned away."""

    def since(self, before: Tally) -> Tally:
        """What was added."""
        return Tally(**{name: value - getattr(before, name) for name, value in self})


class StockRepeat(BaseModel):
    """One phase of a cell, once."""

    done: Repeat
    tally: Tally
    reserved: int
    """Orders that got their unit; all others were refused."""


class Cell(BaseModel):
    """One strategy in one case, each time it was measured: place by place in the same rounds."""

    supply: Supply
    contention: Contention
    strategy: StockStrategy
    drained: list[StockRepeat] = Field(default_factory=list)
    """Backlogs."""
    arrived: list[StockRepeat] = Field(default_factory=list)
    """At the rate."""

    @property
    def case(self) -> Case:
        return Case(self.supply, self.contention)


class StockRecord(RunRecord):
    """One run."""

    plan: StockPlan
    cells: list[Cell]

    def cell(self, case: Case, strategy: StockStrategy) -> Cell:
        """Raises KeyError where it was not measured."""
        for cell in self.cells:
            if (cell.case, cell.strategy) == (case, strategy):
                return cell
        raise KeyError(case, strategy)
