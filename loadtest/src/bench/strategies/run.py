"""One run of the strategies: the stack, the yardsticks, every cell once a round."""

from __future__ import annotations

import os
import random
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.bus import open_bus, stamp_by_broker
from bench.errors import BenchError
from bench.latencies import quantile
from bench.machine import loop
from bench.phases import REPLIES, Ground, arrive, drain
from bench.stage import commit, no_limits, on_own_stack, prepare, read_limits
from bench.strategies.plan import CASES, STRATEGIES
from bench.strategies.record import Cell, StockRecord, StockRepeat
from bench.strategies.shop import DRAIN, RATE, Shop, Stand, demand, work
from bench.strategies.tally import Tallies
from bench.usage import Meter
from local_stack import SERVICES, STEPS, Environment, Stack
from local_stack.streams import connection_to
from shared.audit import Source
from shared.audit.counters import check_counters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from bench.phases import Work
    from bench.record import Limits, Repeat
    from bench.strategies.plan import StockPlan

STOCK: Final = "stock"
GROUPS: Final = ("stock", "stock-requests")
"""The consumer groups of stock, which is alone on its stack."""
PERIOD_S: Final = 0.2
"""Between readings of processor times: a backlog lasts about a second."""


def run(plan: StockPlan, state: Path, tell: Callable[[str], None]) -> StockRecord:
    """Measure every cell on a stack of stock alone. Raises what `on_own_stack` raises."""
    make = partial(
        Stack,
        services=[service for service in SERVICES if service.name == STOCK],
        steps=STEPS,
        replicas={STOCK: plan.instances},
    )
    return on_own_stack(
        make, state, tell, lambda stack, environment: _measure(plan, stack, environment, tell)
    )


@asynccontextmanager
async def frozen(pids: Sequence[int]) -> AsyncIterator[None]:
    """The processes stand still meanwhile.

    Unlike one that starts, one that goes on is warm: a short backlog measures its work alone. It
    is for less than the time after which a group gives up a member that is silent.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@dataclass
class _Rounds:
    """Every cell once a round: the strategies of a case right after each other, since they are
    compared within the round, and all in an order of the round's own."""

    ground: Ground
    tallies: Tallies
    plan: StockPlan
    environment: Environment
    tell: Callable[[str], None]

    async def take(self, limits: Limits) -> list[Cell]:
        shop = Shop(self.ground, self.plan)
        await shop.open()
        await self._drain(shop.first_orders())
        self.tell("all products are there, and every instance knows them")
        cases = [
            [
                Cell(supply=case.supply, contention=case.contention, strategy=strategy)
                for strategy in STRATEGIES
            ]
            for case in CASES
        ]
        for turn in range(self.plan.repeats):
            limits.loop_per_s.append(loop(self.plan.loop_s))
            await shop.stock_up(turn)
            await self._check()
            chance = random.Random(turn)
            for cells in chance.sample(cases, len(cases)):
                for cell in chance.sample(cells, len(cells)):
                    await self._visit(cell, turn)
        await self._check()
        return [cell for cells in cases for cell in cells]

    async def _visit(self, cell: Cell, turn: int) -> None:
        cell.arrived.append(await self._phase(cell, RATE, turn))
        cell.drained.append(await self._phase(cell, DRAIN, turn))
        rate, drained = cell.arrived[-1].done, cell.drained[-1].done
        self.tell(
            f"round {turn + 1} of {self.plan.repeats}: {self.plan.title(cell.case)},"
            f" {cell.strategy}: {drained.per_second:,.0f} verdicts a second,"
            f" p99 {quantile(rate.latency_ms, 0.99)} ms at {self.plan.rate} a second"
        )

    async def _phase(self, cell: Cell, phase: str, turn: int) -> StockRepeat:
        wanted = demand(self.plan, cell.case, phase, turn)
        task = work(Stand(cell.case, cell.strategy, phase), wanted, turn)
        before = await self.tallies.read()
        if phase == DRAIN:
            done = await self._drain(task)
        else:
            done = await arrive(self.ground, task, self.plan.rate)
        tally = (await self.tallies.read()).since(before)
        return StockRepeat(done=done, tally=tally, reserved=wanted.sold)

    async def _drain(self, task: Work) -> Repeat:
        pids = [self.ground.stack.pid(f"{STOCK}-{n}") for n in range(self.plan.instances)]
        return await drain(self.ground, task, partial(frozen, pids), warm=True, period_s=PERIOD_S)

    async def _check(self) -> None:
        """Counters are their rows, or what they turn away would be wrong."""
        found = await check_counters(
            self.environment.database_url, self.environment.redis_url, [Source(STOCK, STOCK)]
        )
        if not found.ok:
            raise BenchError(f"the counters are not what their rows are: {found}")


async def _measure(
    plan: StockPlan, stack: Stack, environment: Environment, tell: Callable[[str], None]
) -> StockRecord:
    connection = connection_to(environment)
    machine = await prepare(environment)
    await stamp_by_broker(connection, [REPLIES])
    limits = no_limits()
    await read_limits(limits, plan, environment.admin_database_url, tell)
    async with AsyncExitStack() as opened:
        database = await asyncpg.connect(environment.admin_database_url)
        opened.push_async_callback(database.close)
        bus = await opened.enter_async_context(open_bus(connection))
        ground = Ground(stack, connection, bus, database, Meter(stack), GROUPS)
        tallies = Tallies([environment.admin_url(f"{STOCK}-{n}") for n in range(plan.instances)])
        opened.push_async_callback(tallies.close)
        cells = await _Rounds(ground, tallies, plan, environment, tell).take(limits)
    await read_limits(limits, plan, environment.admin_database_url, tell)
    return StockRecord(
        started_at="",
        took_s=0.0,
        commit=commit(),
        machine=machine,
        limits=limits,
        plan=plan,
        cells=cells,
    )
