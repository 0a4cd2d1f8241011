"""One run of the whole system: the stack, the yardsticks, the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.latencies import quantile
from bench.machine import loop
from bench.measuring import measuring
from bench.phases import STAMPED, Ground, at_rate, drain_commands, drain_orders
from bench.record import Limits, Phase, Record, Repeat
from bench.stage import on_own_stack
from local_stack import Environment, Stack
from local_stack.seed import seed
from local_stack.streams import connection_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.plan import Plan


def run(plan: Plan, state: Path, tell: Callable[[str], None]) -> Record:
    """Measure everything on a stack of its own. Raises what `on_own_stack` raises."""
    return on_own_stack(
        Stack.whole, state, tell,
        lambda stack, environment: _measure(plan, stack, environment, tell),
    )  # fmt: skip


@dataclass
class _Rounds:
    """Every phase once a round, so that a machine that drifts moves all of them alike."""

    ground: Ground
    plan: Plan
    tell: Callable[[str], None]

    async def take(self, limits: Limits) -> list[Phase]:
        drain = Phase(name="drain", kind="drain")
        commands = Phase(name="commands", kind="commands")
        rates = [Phase(name=f"rate-{one}", kind="rate", rate=one) for one in self.plan.rates]
        await drain_orders(self.ground, self.plan.warm_up_orders, "warm")
        for n in range(self.plan.repeats):
            limits.loop_per_s.append(loop(self.plan.loop_s))
            done = await drain_orders(self.ground, self.plan.orders, f"drain{n}")
            self._add(drain, done, f"{done.per_second:,.0f} orders a second from a backlog")
            for phase, rate in zip(rates, self.plan.rates, strict=True):
                done = await at_rate(self.ground, rate, self.plan.seconds, f"rate{rate}-{n}")
                self._add(phase, done, f"{rate} orders a second arrive, {_slowness(done)}")
            done = await drain_commands(self.ground, self.plan.commands, f"commands{n}")
            self._add(commands, done, f"{done.per_second:,.0f} commands a second through stock")
        return [drain, *rates, commands]

    def _add(self, phase: Phase, done: Repeat, text: str) -> None:
        phase.repeats.append(done)
        self.tell(f"round {len(phase.repeats)} of {self.plan.repeats}: {text}")


async def _measure(
    plan: Plan, stack: Stack, environment: Environment, tell: Callable[[str], None]
) -> Record:
    await seed(connection_to(environment), tell)
    async with measuring(stack, environment, plan, tell, stamped=STAMPED) as found:
        phases = await _Rounds(found.ground, plan, tell).take(found.limits)
        memory = found.ground.meter.memory()
    return Record(**found.noted, plan=plan, phases=phases, memory_bytes=memory)


def _slowness(done: Repeat) -> str:
    return f"p50 {quantile(done.latency_ms, 0.5)} ms, p99 {quantile(done.latency_ms, 0.99)} ms"
