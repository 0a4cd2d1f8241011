"""The raw figures of one load test, as they lie in its JSON file."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bench.load.plan import LoadPlan  # noqa: TC001 (pydantic reads it)
from bench.record import Limits, Noted


class Moment(BaseModel):
    """What k6 counted in one of its periods."""

    at_s: float
    """The end of the period, seconds since the start of the run."""
    took_s: float
    requests: float
    journeys: float
    """Iterations of the script that ended."""
    users: float
    """Virtual users at the end of the period."""
    errors: float
    """Steps with another answer than they may have, as a share of all (0 to 1)."""
    p50_ms: float | None
    """None where no request ended."""
    p95_ms: float | None
    p99_ms: float | None
    routes_p95_ms: dict[str, float] = Field(default_factory=dict)


class Latency(BaseModel):
    """Of one route or one scenario, over the whole run."""

    name: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float


class Threshold(BaseModel):
    """A limit of the script."""

    metric: str
    limit: str
    """As k6 writes it: `p(95)<250`."""
    found: float
    passed: bool


class Sample(BaseModel):
    """What was seen of the stack at one moment."""

    at_s: float
    """Seconds since the start of the run."""
    cores: dict[str, float]
    """Processors in use since the sample before, by part; `k6` and `bench` are no part of the
    stack, `others` are other programs and the kernel, `stolen` went to other machines."""
    lag: dict[str, int]
    """Messages to be read, by consumer group; empty where the broker did not answer."""


class Held(BaseModel):
    """One thing that has to be so after a run."""

    text: str
    holds: bool
    detail: str = ""


class Loaded(BaseModel):
    """One run of k6, and how the system came out of it."""

    k6_version: str
    totals: dict[str, float]
    """What the script counted: `http_reqs`, `iterations`, and its own counters."""
    latencies: list[Latency]
    thresholds: list[Threshold]
    complaints: dict[str, int]
    """What was answered instead of what may be, and how often, as far as virtual users told."""
    moments: list[Moment]
    samples: list[Sample]
    memory_bytes: dict[str, int]
    """The most that each part held."""
    rest_s: float
    """From the end of k6 until nothing was under way any more."""
    checked: list[Held]
    """The system at rest, every invariant, and what a crowd got."""

    @property
    def took_s(self) -> float:
        """How long k6 ran."""
        return self.moments[-1].at_s if self.moments else 0.0


class LoadRecord(Noted):
    """One load test."""

    plan: LoadPlan
    limits: Limits | None
    """The yardsticks; None on a stack that was not started for this run."""
    loaded: Loaded

    @property
    def failures(self) -> list[str]:
        """Everything that is not as it has to be, in words."""
        broken = [one for one in self.loaded.thresholds if not one.passed]
        wrong = [one for one in self.loaded.checked if not one.holds]
        return [
            *(f"threshold: {one.metric} {one.limit}, found {one.found:,.4g}" for one in broken),
            *(f"{one.text}: {one.detail}" for one in wrong),
        ]
