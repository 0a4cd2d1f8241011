"""From the turns of a pair to its figures: before, now, and how they differ. Pure."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.differences import Difference, Gap
from bench.errors import BenchError
from bench.figures import Spread, reading
from bench.load.driving import K6
from bench.usage import OWN, base_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.bottlenecks.record import PairTurns, Turn
    from bench.figures import Better
    from bench.load.record import Latency, Moment, Sample

STEADY: Final = "steady"
PLACE, PAY = f"{STEADY},name:POST /api/orders", f"{STEADY},name:POST /api/orders/{{id}}/payment"
ROUTES: Final = {STEADY: "all requests", PLACE: "placing", PAY: "paying"}
"""Part of the durations, as k6 names it -> what it is."""
NO_SYSTEM: Final = frozenset({K6, OWN, "others", "stolen"})
"""What is looked at beside the system, and is no part of what a journey costs."""
CPU_UNIT: Final = "ms a journey"
ERRORS: Final = "errors"
NOTABLE_ERRORS: Final = 1.0
"""Per cent of all steps: from how many on they matter."""
LEAST_TURNS: Final = 2
"""Of each side: one turn has no spread."""


class Beside(NamedTuple):
    """One figure of both sides."""

    title: str
    unit: str
    before: Spread
    """From the lowest turn to the highest, as `now`."""
    now: Spread
    ratio: Spread | None
    """Now/before, as wide as both spreads allow; None where one is 0."""
    judged: int
    """1: better, -1: worse, 0: no difference seen. Errors, which may be 0, are told apart by how
    far they lie apart, all else by the ratio."""


def steady_rates(moments: Sequence[Moment], start_s: float, end_s: float) -> tuple[float, float]:
    """Journeys a second and the share of errors within this time of the run.

    Periods of k6 count that lie in it whole. Raises BenchError where none does.
    """
    within = [one for one in moments if one.at_s - one.took_s >= start_s and one.at_s <= end_s]
    took_s = sum(one.took_s for one in within)
    requests = sum(one.requests for one in within)
    if took_s <= 0:
        raise BenchError("k6 counted nothing after the ramp")
    failed = sum(one.errors * one.requests for one in within)
    return sum(one.journeys for one in within) / took_s, failed / requests if requests else 0.0


def steady_cores(samples: Sequence[Sample], start_s: float, end_s: float) -> dict[str, float]:
    """Processors in use within this time of the run, by part. Raises BenchError where nobody
    looked."""
    used: dict[str, float] = {}
    took_s = 0.0
    for before, sample in pairwise(samples):
        if before.at_s >= start_s and sample.at_s <= end_s:
            took_s += sample.at_s - before.at_s
            for name, cores in sample.cores.items():
                used[name] = used.get(name, 0.0) + cores * (sample.at_s - before.at_s)
    if took_s <= 0:
        raise BenchError("nobody looked at the stack after the ramp")
    return {name: seconds / took_s for name, seconds in used.items()}


def cpu_ms(turn: Turn) -> dict[str, float]:
    """Processor time for one journey, ms, by service or server: instances of one together.

    Empty where no journey ended.
    """
    found: dict[str, float] = {}
    for name, cores in turn.cores.items():
        if name not in NO_SYSTEM and turn.journeys_per_s:
            name = base_name(name)
            found[name] = found.get(name, 0.0) + cores / turn.journeys_per_s * 1000
    return found


def figures(pair: PairTurns) -> list[Beside]:
    """All figures of a pair, those first that matter most. Each side has a turn at least."""
    found = [_beside(pair, "journeys", "1/s", "more", lambda turn: turn.journeys_per_s)]
    for name, title in ROUTES.items():
        for label, pick in (("p50", _p50), ("p95", _p95)):
            found.append(_beside(pair, f"{title}, {label}", "ms", "less", partial(pick, name)))
    found.append(_beside(pair, ERRORS, "%", "less", lambda turn: turn.errors * 100))
    found.append(_beside(pair, "CPU in all", CPU_UNIT, "less", lambda turn: _sum(cpu_ms(turn))))
    parts = {name for turn in pair.turns for name in cpu_ms(turn)}
    costs = [
        _beside(pair, f"CPU of {part}", CPU_UNIT, "less", partial(_cost, part))
        for part in sorted(parts)
    ]
    return [*found, *sorted(costs, key=lambda one: -one.now.median)]


def _beside(
    pair: PairTurns, title: str, unit: str, better: Better, pick: Callable[[Turn], float]
) -> Beside:
    before, now = (
        [pick(turn) for turn in pair.turns if turn.side == side] for side in ("before", "now")
    )
    was, is_now = reading(before), reading(now)
    ratio = is_now.over(was) if min(*before, *now) > 0 else None
    if min(len(before), len(now)) < LEAST_TURNS:
        ratio = ratio and Spread(ratio.median, None, None)
        return Beside(title, unit, was, is_now, ratio, 0)
    judged = 0
    if title == ERRORS:
        middle = is_now.median - was.median
        apart = Spread(middle, min(now) - max(before), max(now) - min(before))
        judged = Gap(title, is_now.median, was.median, apart, NOTABLE_ERRORS).judged
    elif ratio is not None:
        judged = Difference(title, ratio, better).judged
    return Beside(title, unit, was, is_now, ratio, judged)


def _latency(name: str, turn: Turn) -> Latency | None:
    return next((one for one in turn.latencies if one.name == name), None)


def _p50(name: str, turn: Turn) -> float:
    found = _latency(name, turn)
    return found.p50_ms if found else 0.0


def _p95(name: str, turn: Turn) -> float:
    found = _latency(name, turn)
    return found.p95_ms if found else 0.0


def _sum(costs: Mapping[str, float]) -> float:
    return sum(costs.values())


def _cost(part: str, turn: Turn) -> float:
    return cpu_ms(turn).get(part, 0.0)
