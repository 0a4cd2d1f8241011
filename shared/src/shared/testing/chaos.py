"""Faults on a seeded schedule, while work goes on.

    faults = [*faults_of(stock), *faults_of(payment, kinds=("kill",)), broker_restart]
    async with Chaos(faults, seed=7) as chaos:
        await publish_orders_and_wait()
    chaos.require(kill=5, freeze=3)     # a run that proves nothing fails

The seed decides which fault comes when and how long it lasts; replaying a seed replays the
schedule, not the interleaving. All that was broken is healed when the block ends, also when the
work fails.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from types import TracebackType

    Action = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break one thing, and the way to mend it."""

    kind: str
    """A word to count by: `kill`, `freeze`, `cut`."""
    target: str
    inject: Action
    heal: Action
    """Returns once the target is well again."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One entry of the schedule."""

    pause_s: float
    """From the end of the blow before."""
    fault: Fault
    hold_s: float
    """How long the fault lasts before it is healed."""


class Victim(Protocol):
    """What `faults_of` needs; `Instance` is one."""

    instance_id: str

    async def kill(self) -> None: ...
    async def terminate(self) -> int: ...
    async def restart(self) -> None: ...
    async def wait_ready(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


def faults_of(
    victim: Victim, kinds: Sequence[str] = ("kill", "freeze", "terminate")
) -> list[Fault]:
    """The faults of a process: `kill` and `terminate` with a restart, `freeze` with a thaw."""

    async def freeze() -> None:
        victim.freeze()

    async def thaw() -> None:
        victim.thaw()
        await victim.wait_ready()

    async def terminate() -> None:
        await victim.terminate()

    async def kill() -> None:
        await victim.kill()

    async def restart() -> None:
        await victim.restart()

    actions: dict[str, tuple[Action, Action]] = {
        "kill": (kill, restart),
        "freeze": (freeze, thaw),
        "terminate": (terminate, restart),
    }
    return [Fault(kind, victim.instance_id, *actions[kind]) for kind in kinds]


class Infrastructure(Protocol):
    """What `faults_of_part` needs: the local stack is one. Its calls block."""

    def kill(self, name: str) -> int: ...
    def hold(self, name: str) -> None: ...
    def release(self, name: str) -> int: ...
    def wait_healthy(self, name: str) -> int: ...


def faults_of_part(
    infrastructure: Infrastructure, part: str, kinds: Sequence[str] = ("kill", "outage")
) -> list[Fault]:
    """The faults of Postgres, Valkey or Kafka: `kill`, after which it comes back at once, and
    `outage`, which lasts as long as the schedule says."""

    async def kill() -> None:
        await asyncio.to_thread(infrastructure.kill, part)

    async def wait_healthy() -> None:
        await asyncio.to_thread(infrastructure.wait_healthy, part)

    async def hold() -> None:
        await asyncio.to_thread(infrastructure.hold, part)

    async def release() -> None:
        await asyncio.to_thread(infrastructure.release, part)

    actions: dict[str, tuple[Action, Action]] = {
        "kill": (kill, wait_healthy),
        "outage": (hold, release),
    }
    return [Fault(kind, part, *actions[kind]) for kind in kinds]


def schedule(
    faults: Sequence[Fault],
    seed: int,
    *,
    pause_s: tuple[float, float],
    hold_s: tuple[float, float],
) -> Iterator[Blow]:
    """Blows without end. Every fault comes once in each round, in an order drawn anew, so that a
    short run has some of each."""
    chance = random.Random(seed)
    while True:
        for fault in chance.sample(list(faults), len(faults)):
            yield Blow(chance.uniform(*pause_s), fault, chance.uniform(*hold_s))


class Chaos:
    """Runs a schedule beside the body of its `async with` block, one fault at a time.

    For faults that overlap, run two with different seeds over different targets.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        *,
        seed: int,
        pause_s: tuple[float, float] = (0.2, 1.0),
        hold_s: tuple[float, float] = (0.0, 0.5),
        limit: int | None = None,
    ) -> None:
        """Pauses and durations are drawn evenly from ranges in seconds; after `limit` blows no
        more come."""
        if not faults:
            raise ValueError("chaos without a fault proves nothing")
        self.counts: Counter[str] = Counter()
        """How many blows of each kind were dealt and healed."""
        self.log: list[tuple[str, str]] = []
        """(kind, target) of each blow, in order."""
        self._blows = itertools.islice(
            schedule(faults, seed, pause_s=pause_s, hold_s=hold_s), limit
        )
        self._running: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        assert self._running is not None
        # A fault in hand is healed before the block is left.
        await self._running

    async def finished(self) -> None:
        """Returns once `limit` blows were dealt; never, where there is no limit."""
        assert self._running is not None
        await asyncio.shield(self._running)

    def require(self, **least: int) -> None:
        """Raises AssertionError unless at least so many blows of each kind were dealt."""
        missing = {kind: (self.counts[kind], n) for kind, n in least.items()}
        missing = {kind: (had, n) for kind, (had, n) in missing.items() if had < n}
        if missing:
            text = ", ".join(f"{had} of {n} {kind}" for kind, (had, n) in missing.items())
            raise AssertionError(f"too few faults to prove anything: {text}")

    async def _run(self) -> None:
        for blow in self._blows:
            if await self._is_over(within_s=blow.pause_s):
                return
            await blow.fault.inject()
            try:
                await self._is_over(within_s=blow.hold_s)
            finally:
                await blow.fault.heal()
            self.counts[blow.fault.kind] += 1
            self.log.append((blow.fault.kind, blow.fault.target))

    async def _is_over(self, *, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._over.wait()
        except TimeoutError:
            return False
        return True
