"""One run of the settings: the stack, the yardsticks, every value once a round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.latencies import quantile
from bench.machine import loop
from bench.measuring import alone, groups_of, measuring
from bench.settings.gateway import STAMPED, measure_calls, measure_pause, undo_settings
from bench.settings.losses import measure_losses
from bench.settings.pools import measure_pool
from bench.settings.record import (
    CallsRepeat,
    PauseRepeat,
    PoolRepeat,
    RedisRepeat,
    SettingsRecord,
)
from bench.stage import on_own_stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.phases import Ground
    from bench.record import Limits
    from bench.settings.plan import SettingsPlan
    from local_stack import Environment, Stack

PAYMENT: Final = "payment"


def run(plan: SettingsPlan, state: Path, tell: Callable[[str], None]) -> SettingsRecord:
    """Measure every value on a stack of payment alone. Raises what `on_own_stack` raises."""
    return on_own_stack(
        alone(PAYMENT, 1), state, tell,
        lambda stack, environment: _measure(plan, stack, environment, tell),
    )  # fmt: skip


@dataclass
class _Rounds:
    """Every value once a round, so that a machine that drifts moves all of them alike."""

    ground: Ground
    plan: SettingsPlan
    redis_url: str
    tell: Callable[[str], None]
    pools: list[PoolRepeat] = field(default_factory=list)
    redis: list[RedisRepeat] = field(default_factory=list)
    calls: list[CallsRepeat] = field(default_factory=list)
    pauses: list[PauseRepeat] = field(default_factory=list)

    async def take(self, limits: Limits) -> dict[str, Any]:
        for turn in range(self.plan.repeats):
            self._round = f"round {turn + 1} of {self.plan.repeats}"
            limits.loop_per_s.append(loop(self.plan.loop_s))
            await self._pools()
            await self._redis()
            await self._gateway(str(turn))
        await undo_settings(self.ground)
        return {
            "pools": self.pools, "redis": self.redis, "calls": self.calls, "pauses": self.pauses,
        }  # fmt: skip

    async def _pools(self) -> None:
        for connections in self.plan.pools:
            found = await measure_pool(self.ground, connections, self.plan.transactions)
            self.pools.append(found)
            self._tell(
                f"{connections} connections: {found.per_second:,.0f} transactions a second,"
                f" p99 {quantile(found.latency_ms, 0.99)} ms, {found.refused:,} refused"
            )

    async def _redis(self) -> None:
        for retries in self.plan.retries:
            lost = await measure_losses(self.redis_url, retries, self.plan.questions)
            self.redis.append(lost)
            self._tell(f"{retries} retries: {lost.lost:,} of {lost.asked:,} questions lost")

    async def _gateway(self, turn: str) -> None:
        for at_once in self.plan.calls:
            calls = await measure_calls(self.ground, at_once, self.plan.charges, turn)
            self.calls.append(calls)
            self._tell(f"{at_once} calls at once: {calls.done.per_second:,.0f} charges a second")
        for first_s in self.plan.pauses_s:
            paused = await measure_pause(self.ground, first_s, self.plan.charges // 2, turn)
            self.pauses.append(paused)
            self._tell(
                f"first pause {first_s:g} s: p99 {quantile(paused.done.latency_ms, 0.99)} ms,"
                f" {paused.requests:,} requests for {paused.done.messages:,} charges"
            )

    def _tell(self, text: str) -> None:
        self.tell(f"{self._round}: {text}")


async def _measure(
    plan: SettingsPlan, stack: Stack, environment: Environment, tell: Callable[[str], None]
) -> SettingsRecord:
    async with measuring(
        stack, environment, plan, tell, stamped=STAMPED, groups=groups_of(PAYMENT)
    ) as found:
        rounds = _Rounds(found.ground, plan, environment.redis_url, tell)
        measured = await rounds.take(found.limits)
    return SettingsRecord(**found.noted, plan=plan, **measured)
