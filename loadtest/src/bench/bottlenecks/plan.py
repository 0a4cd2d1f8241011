"""What one run of the bottlenecks measures: which pairs, how many users, how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from bench.bottlenecks.pairs import NAMES, PAIRS
from bench.load.plan import LoadPlan, Scenario
from bench.plan import Yardsticks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.bottlenecks.pairs import Pair, Side


class BottlenecksPlan(Yardsticks):
    """Sizes and repeats."""

    only: tuple[str, ...] = tuple(pair.name for pair in PAIRS if pair.by_default)
    """Names of pairs."""
    users: int = Field(300, ge=1, le=10_000)
    """Who make the journey again and again, each after a pause of a second."""
    seconds: int = Field(8, ge=3, le=600)
    """That count, of each turn of a side."""
    ramp_s: int = Field(3, ge=1, le=600)
    """Before these, while the users come."""
    repeats: int = Field(2, ge=1, le=50)
    """Turns of each side."""
    pgbench_s: int = Field(5, ge=1)

    @field_validator("only")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(NAMES)):
            raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return names

    @property
    def pairs(self) -> Sequence[Pair]:
        """Those that are asked for."""
        return [pair for pair in PAIRS if pair.name in self.only]

    @property
    def doubled(self) -> bool:
        """Whether any side wants second instances."""
        return any(side.instances > 1 for pair in self.pairs for side in (pair.before, pair.now))

    def load(self, seconds: int) -> LoadPlan:
        """The journey: users come within the ramp, and stay for so many seconds."""
        stages = f"{self.ramp_s}s:{self.users},{seconds}s:{self.users}"
        return LoadPlan(scenario=Scenario.JOURNEY, stages=stages)

    def script(self, side: Side, load: LoadPlan) -> Mapping[str, str]:
        """What the journey is told for a side."""
        return {**load.settings(""), "RAMP_S": str(self.ramp_s), **side.script}
