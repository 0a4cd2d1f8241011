"""One run of the bottlenecks: the stack, the yardsticks, and every pair in turns."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.bottlenecks.figures import ROUTES, steady_cores, steady_rates
from bench.bottlenecks.pairs import DOUBLED, REDIS_PRODUCT
from bench.bottlenecks.record import BottlenecksRecord, PairTurns, Turn
from bench.bottlenecks.services import share, start_anew
from bench.errors import BenchError
from bench.faults import gateway_faults
from bench.load import scarce
from bench.load.driving import Driver
from bench.load.judging import REST_WITHIN_S, judged
from bench.load.k6 import find_or_build, version_of
from bench.load.run import URL_VARIABLE
from bench.machine import loop
from bench.measuring import measuring
from bench.stage import on_own_stack
from bench.usage import pids_of
from local_stack import Stack
from local_stack.seed import UNITS, seed
from local_stack.streams import connection_to
from orderctl.draining import wait_until_at_rest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.bottlenecks.pairs import Pair, Side
    from bench.bottlenecks.plan import BottlenecksPlan
    from bench.bottlenecks.record import SideName
    from bench.load.driving import Driven
    from bench.phases import Ground
    from bench.record import Limits
    from local_stack import Environment

WARM_UP_S: Final = 5
"""After a ramp, before anything counts: Postgres and Kafka have met the work then."""


def run(plan: BottlenecksPlan, state: Path, tell: Callable[[str], None]) -> BottlenecksRecord:
    """Measure every pair on a stack of its own. Raises what `on_own_stack` raises."""
    k6 = find_or_build(tell)
    replicas = dict.fromkeys(DOUBLED, 2) if plan.doubled else {}
    return on_own_stack(
        partial(Stack.whole, replicas=replicas), state, tell,
        lambda stack, environment: _measure(plan, k6, stack, environment, tell),
    )  # fmt: skip


@dataclass
class _Turns:
    """Both sides of a pair in turns, so that a machine that drifts moves both."""

    plan: BottlenecksPlan
    ground: Ground
    environment: Environment
    driver: Driver
    tell: Callable[[str], None]
    _instances: int = field(default=1, init=False)
    """Of each service in DOUBLED."""
    _shares: int = field(default=0, init=False)

    async def take(self, limits: Limits) -> list[PairTurns]:
        if self.plan.doubled:
            self._instances = 2
        await self._share(1)
        await self._drive(self.plan.pairs[0].now, WARM_UP_S)
        await self._rest()
        return [await self._pair(pair, limits) for pair in self.plan.pairs]

    async def _pair(self, pair: Pair, limits: Limits) -> PairTurns:
        found = PairTurns(
            name=pair.name, shows=pair.shows, before=pair.before.label, now=pair.now.label
        )
        limits.loop_per_s.append(loop(self.plan.loop_s))
        sides: tuple[tuple[SideName, Side], ...] = ("before", pair.before), ("now", pair.now)
        for turn in range(self.plan.repeats):
            for name, side in sides:
                done = await self._turn(pair, name, side)
                found.turns.append(done)
                self.tell(
                    f"{pair.name}, turn {turn + 1} of {self.plan.repeats}, {name}, {side.label}:"
                    f" {done.journeys_per_s:.1f} journeys a second, {done.errors:.1%} errors"
                )
        await start_anew(self.ground.stack, pair.services, {})  # with their own settings again
        return found

    async def _turn(self, pair: Pair, name: SideName, side: Side) -> Turn:
        await self._share(side.instances)
        await start_anew(self.ground.stack, pair.services, side.settings)
        async with AsyncExitStack() as opened:
            if pair.gateway_s:
                slow = {"fault": "latency", "seconds": pair.gateway_s}
                url = self.environment["GATEWAY_URL"]
                await opened.enter_async_context(gateway_faults(url, slow))
            driven = await self._drive(side, self.plan.seconds)
        rest_s = await self._rest()
        start_s, end_s = float(self.plan.ramp_s), float(self.plan.ramp_s + self.plan.seconds)
        journeys_per_s, errors = steady_rates(driven.moments, start_s, end_s)
        return Turn(
            side=name,
            journeys_per_s=journeys_per_s,
            errors=errors,
            latencies=[one for one in driven.latencies if one.name in ROUTES],
            cores=steady_cores(driven.samples, start_s, end_s),
            complaints=driven.complaints,
            rest_s=rest_s,
        )

    async def _share(self, instances: int) -> None:
        if instances != self._instances:
            self._shares += 1
            await share(self.ground, instances, f"share-{self._shares}")
            self._instances = instances

    async def _drive(self, side: Side, seconds: int) -> Driven:
        load = self.plan.load(seconds)
        return await self.driver.drive(
            load.scenario.script, self.plan.script(side, load), load.period_s, load.watch_s
        )

    async def _rest(self) -> float:
        """Seconds until nothing is under way any more."""
        started_s = time.monotonic()
        dsn, connection = self.environment["DATABASE_URL"], self.driver.connection
        found = await wait_until_at_rest(dsn, connection, within_s=REST_WITHIN_S)
        if found.at_work:
            raise BenchError(f"{REST_WITHIN_S:.0f} s after k6 there is at work: {found.at_work}")
        return time.monotonic() - started_s


async def _measure(
    plan: BottlenecksPlan,
    k6: Path,
    stack: Stack,
    environment: Environment,
    tell: Callable[[str], None],
) -> BottlenecksRecord:
    connection = connection_to(environment)
    await seed(connection, tell)
    await scarce.put_product(connection, REDIS_PRODUCT, UNITS)
    driver = Driver(k6, environment[URL_VARIABLE], connection, pids_of(stack), lambda _: None)
    async with measuring(stack, environment, plan, tell, stamped=()) as found:
        turns = _Turns(plan, found.ground, environment, driver, tell)
        pairs = await turns.take(found.limits)
        tell("waiting for rest, then all invariants")
        _, checked = await judged(environment, connection)
    return BottlenecksRecord(
        **found.noted, plan=plan, k6_version=version_of(k6), pairs=pairs, checked=checked
    )
