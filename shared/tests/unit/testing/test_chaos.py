"""Chaos: seeded, counted, and healed whatever happens."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from shared.testing.chaos import Chaos, Fault, faults_of, schedule
from shared.testing.signals import Signal


class FakeVictim:
    """Notes what is done to it."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.did: Signal[str] = Signal(instance_id)

    async def kill(self) -> None:
        self.did.fire("kill")

    async def terminate(self) -> int:
        self.did.fire("terminate")
        return 0

    async def restart(self) -> None:
        self.did.fire("restart")

    async def wait_ready(self) -> None:
        self.did.fire("ready")

    def freeze(self) -> None:
        self.did.fire("freeze")

    def thaw(self) -> None:
        self.did.fire("thaw")


def plan(seed: int, blows: int = 30) -> list[tuple[float, str, str, float]]:
    faults = [*faults_of(FakeVictim("stock-0")), *faults_of(FakeVictim("stock-1"))]
    return [
        (blow.pause_s, blow.fault.kind, blow.fault.target, blow.hold_s)
        for blow in itertools.islice(
            schedule(faults, seed, pause_s=(0.1, 0.2), hold_s=(0.3, 0.4)), blows
        )
    ]


def test_the_seed_decides_the_schedule() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    assert all(0.1 <= pause <= 0.2 and 0.3 <= hold <= 0.4 for pause, _, _, hold in plan(3))


def test_every_fault_comes_in_each_round() -> None:
    blows = plan(5)
    for start in range(0, len(blows), 6):
        assert len({(kind, target) for _, kind, target, _ in blows[start : start + 6]}) == 6


async def test_it_strikes_while_work_goes_on_and_counts() -> None:
    victim = FakeVictim("stock-0")
    async with Chaos(faults_of(victim), seed=1, pause_s=(0, 0), hold_s=(0, 0), limit=6) as chaos:
        await chaos.finished()
    assert chaos.counts == {"kill": 2, "freeze": 2, "terminate": 2}
    done = victim.did.values
    assert done.count("restart") == 4
    assert done.count("thaw") == done.count("ready") == 2
    assert [kind for kind, _ in chaos.log] == [
        action for action in done if action in ("kill", "freeze", "terminate")
    ]
    chaos.require(kill=2, freeze=1)
    with pytest.raises(AssertionError, match="2 of 3 kill"):
        chaos.require(kill=3)


async def test_the_fault_in_hand_is_healed_when_the_work_fails() -> None:
    victim = FakeVictim("stock-0")

    async def work() -> None:
        async with Chaos(
            faults_of(victim, kinds=("freeze",)), seed=1, pause_s=(0, 0), hold_s=(60, 60)
        ):
            await victim.did.matching(lambda action: action == "freeze")
            raise ValueError("the work fails")

    with pytest.raises(ValueError, match="the work fails"):
        async with asyncio.timeout(5):
            await work()
    assert victim.did.values == ["freeze", "thaw", "ready"]


async def test_a_fault_that_cannot_be_healed_fails_the_run() -> None:
    async def nothing() -> None: ...

    async def fails() -> None:
        raise RuntimeError("does not come back")

    chaos = Chaos([Fault("kill", "kafka", nothing, fails)], seed=1, pause_s=(0, 0), limit=1)
    with pytest.raises(RuntimeError, match="does not come back"):
        async with chaos:
            await chaos.finished()
    with pytest.raises(AssertionError):
        chaos.require(kill=1)
