"""The raw figures of a run of the bottlenecks, as they lie in its JSON file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from bench.bottlenecks.plan import BottlenecksPlan  # noqa: TC001 (pydantic reads it)
from bench.load.record import Held, Latency
from bench.record import RunRecord

SideName = Literal["before", "now"]


class Turn(BaseModel):
    """One side under load, once: what comes after the ramp."""

    side: SideName
    journeys_per_s: float
    errors: float
    """Steps with another answer than they may have, as a share of all (0 to 1)."""
    latencies: list[Latency]
    """Of all requests, of placing and of paying, by the names in `figures`."""
    cores: dict[str, float]
    """Processors in use, by part; as in `bench.load.record.Sample`."""
    complaints: dict[str, int]
    """What was answered instead of what may be, ramp included."""
    rest_s: float
    """From the end of k6 until nothing was under way any more."""


class PairTurns(BaseModel):
    """A pair, and every turn of its sides in their order."""

    name: str
    shows: str
    before: str
    """What the side is, in words."""
    now: str
    turns: list[Turn] = Field(default_factory=list)


class BottlenecksRecord(RunRecord):
    """One run."""

    plan: BottlenecksPlan
    k6_version: str
    pairs: list[PairTurns]
    checked: list[Held]
    """The system at rest and every invariant, when all was done."""

    @property
    def failures(self) -> list[str]:
        """What does not hold, in words."""
        return [f"{one.text}: {one.detail}" for one in self.checked if not one.holds]
