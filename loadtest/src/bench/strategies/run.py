"""One run of the strategies: the stack, the yardsticks, every cell once a round."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.latencies import quantile
from bench.machine import loop
from bench.measuring import alone, expect_counters, groups_of, in_turn, measuring
from bench.phases import REPLIES, Ground, arrive, drain
from bench.stage import on_own_stack
from bench.strategies.plan import CASES, STRATEGIES
from bench.strategies.record import Cell, StockRecord, StockRepeat
from bench.strategies.shop import DRAIN, RATE, Shop, Stand, demand, work
from bench.strategies.tally import Tallies

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from bench.phases import Work
    from bench.record import Limits, Repeat
    from bench.strategies.plan import StockPlan
    from local_stack import Environment, Stack

STOCK: Final = "stock"
PERIOD_S: Final = 0.2
"""Between readings of processor times: a backlog lasts about a second."""


def run(plan: StockPlan, state: Path, tell: Callable[[str], None]) -> StockRecord:
    """Measure every cell on a stack of stock alone. Raises what `on_own_stack` raises."""
    return on_own_stack(
        alone(STOCK, plan.instances), state, tell,
        lambda stack, environment: _measure(plan, stack, environment, tell),
    )  # fmt: skip


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
    """Every cell once a round."""

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
            await expect_counters(self.environment, STOCK)
            for cell in in_turn(cases, turn):
                await self._visit(cell, turn)
        await expect_counters(self.environment, STOCK)
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


async def _measure(
    plan: StockPlan, stack: Stack, environment: Environment, tell: Callable[[str], None]
) -> StockRecord:
    async with measuring(
        stack, environment, plan, tell, stamped=[REPLIES], groups=groups_of(STOCK)
    ) as found:
        tallies = Tallies([environment.admin_url(f"{STOCK}-{n}") for n in range(plan.instances)])
        try:
            rounds = _Rounds(found.ground, tallies, plan, environment, tell)
            cells = await rounds.take(found.limits)
        finally:
            await tallies.close()
    return StockRecord(**found.noted, plan=plan, cells=cells)
