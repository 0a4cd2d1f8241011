"""One run of the kinds of campaign: the stack, the yardsticks, every cell once a round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.campaigns.crowd import Rush
from bench.campaigns.plan import KINDS, Keying, title
from bench.campaigns.record import Cell, CouponRecord, RushRepeat
from bench.campaigns.rush import ADMIN, STAMPED, exchange, rush
from bench.latencies import quantile
from bench.machine import loop
from bench.measuring import alone, expect_counters, groups_of, in_turn, measuring
from bench.stage import on_own_stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.campaigns.plan import CouponPlan
    from bench.phases import Ground
    from bench.record import Limits
    from local_stack import Environment, Stack

COUPON: Final = "coupon"
WARM_UP: Final = "warm"


def run(plan: CouponPlan, state: Path, tell: Callable[[str], None]) -> CouponRecord:
    """Measure every cell on a stack of coupon alone. Raises what `on_own_stack` raises."""
    return on_own_stack(
        alone(COUPON, plan.instances), state, tell,
        lambda stack, environment: _measure(plan, stack, environment, tell),
    )  # fmt: skip


@dataclass
class _Rounds:
    """Every cell once a round."""

    ground: Ground
    plan: CouponPlan
    environment: Environment
    tell: Callable[[str], None]

    async def take(self, limits: Limits) -> list[Cell]:
        situations = [[Cell(kind=kind, keying=keying) for kind in KINDS] for keying in Keying]
        cells = [cell for some in situations for cell in some]
        await self._open(cells, WARM_UP)
        for cell in cells:
            await self._rush(cell, WARM_UP)
        self.tell("every instance has met every kind of campaign")
        for turn in range(self.plan.repeats):
            limits.loop_per_s.append(loop(self.plan.loop_s))
            await self._open(cells, str(turn))
            for cell in in_turn(situations, turn):
                cell.rushes.append(await self._rush(cell, str(turn)))
                self._tell_of(cell)
        await expect_counters(self.environment, COUPON)
        return cells

    async def _open(self, cells: list[Cell], turn: str) -> None:
        """Put the campaigns of a round, and wait until their gates stand."""
        puts = [self._of(cell, turn).put() for cell in cells]
        await exchange(self.ground, ADMIN, puts, {"CampaignPut": len(puts)})
        await expect_counters(self.environment, COUPON)

    async def _rush(self, cell: Cell, turn: str) -> RushRepeat:
        return await rush(self.ground, self._of(cell, turn))

    def _of(self, cell: Cell, turn: str) -> Rush:
        users = self.plan.warm_up_users if turn == WARM_UP else self.plan.users
        return Rush(cell.kind, cell.keying, turn, users, self.plan.coupons)

    def _tell_of(self, cell: Cell) -> None:
        done = cell.rushes[-1]
        self.tell(
            f"round {len(cell.rushes)} of {self.plan.repeats}: {cell.kind} {title(cell.keying)}:"
            f" {done.issued_per_second:,.0f} coupons and {done.done.per_second:,.0f} verdicts a"
            f" second, p99 {quantile(done.done.latency_ms, 0.99)} ms,"
            f" {done.overtaken:,} overtaken"
        )


async def _measure(
    plan: CouponPlan, stack: Stack, environment: Environment, tell: Callable[[str], None]
) -> CouponRecord:
    async with measuring(
        stack, environment, plan, tell, stamped=STAMPED, groups=groups_of(COUPON)
    ) as found:
        cells = await _Rounds(found.ground, plan, environment, tell).take(found.limits)
    return CouponRecord(**found.noted, plan=plan, cells=cells)
