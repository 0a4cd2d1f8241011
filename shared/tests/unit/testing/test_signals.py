"""Waiting: what is returned, when it fails, and what a failure says."""

from __future__ import annotations

import asyncio
import time

import pytest

from shared.testing.signals import ConditionNotMet, Gate, Signal, eventually, stays


async def test_eventually_returns_the_first_value_that_is_accepted() -> None:
    values = iter([0, 1, 2, 3])
    assert await eventually(lambda: next(values), accept=lambda value: value >= 2) == 2
    assert next(values) == 3


async def test_eventually_awaits_an_asynchronous_probe() -> None:
    async def probe() -> str:
        await asyncio.sleep(0)
        return "there"

    assert await eventually(probe) == "there"


async def test_eventually_says_what_it_waited_for_and_what_it_saw_last() -> None:
    values = iter(["PENDING", "PENDING", "COMPENSATING"])
    with pytest.raises(ConditionNotMet) as failure:
        await eventually(
            lambda: next(values, "REJECTED"),
            within_s=0.1,
            describe="order o-1 is confirmed",
            accept=lambda status: status == "CONFIRMED",
        )
    text = str(failure.value)
    assert "order o-1 is confirmed" in text
    assert "last value: 'REJECTED'" in text
    assert "'PENDING'; 'COMPENSATING'" in text


async def test_eventually_takes_an_exception_for_not_yet_and_shows_it() -> None:
    answers = iter([ConnectionRefusedError("down"), None])

    def probe() -> str:
        if answer := next(answers):
            raise answer
        return "up"

    assert await eventually(probe) == "up"

    def broken() -> str:
        raise ConnectionRefusedError("still down")

    with pytest.raises(ConditionNotMet, match="still down") as failure:
        await eventually(broken, within_s=0.05)
    assert isinstance(failure.value.__cause__, ConnectionRefusedError)


async def test_eventually_cuts_off_a_probe_that_hangs() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    started_at = time.monotonic()
    with pytest.raises(ConditionNotMet, match="hung"):
        await eventually(hangs, within_s=0.1)
    assert time.monotonic() - started_at < 3


async def test_eventually_looks_once_even_without_time() -> None:
    assert await eventually(lambda: "there", within_s=0) == "there"
    with pytest.raises(ConditionNotMet, match=r"\(1 looks\)"):
        await eventually(lambda: None, within_s=0)


async def test_eventually_looks_often_at_first_and_seldom_later() -> None:
    looked_at: list[float] = []

    def probe() -> bool:
        looked_at.append(time.monotonic())
        return False

    with pytest.raises(ConditionNotMet):
        await eventually(probe, within_s=1.0)
    assert looked_at[3] - looked_at[0] < 0.2
    assert len(looked_at) < 20


async def test_stays_fails_as_soon_as_the_value_changes() -> None:
    assert await stays(lambda: 7, for_s=0.1) == 7
    values = iter([1, 1])
    started_at = time.monotonic()
    with pytest.raises(ConditionNotMet, match="nothing is sold"):
        await stays(lambda: next(values, 0), for_s=10, describe="nothing is sold")
    assert time.monotonic() - started_at < 2


async def test_a_signal_keeps_what_fired_before_anyone_waited() -> None:
    signal: Signal[int] = Signal("relay published")
    signal.fire(1)
    signal.fire(2)
    assert await signal.next() == 1
    assert await signal.count(2) == [1, 2]
    assert await signal.matching(lambda value: value == 2) == 2
    assert await signal.next() == 2


async def test_a_signal_wakes_all_who_wait() -> None:
    signal: Signal[int] = Signal()
    waiting = [asyncio.create_task(signal.count(2)) for _ in range(3)]
    await asyncio.sleep(0)
    signal.fire(1)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    signal.fire(2)
    assert await asyncio.gather(*waiting) == [[1, 2]] * 3


async def test_a_signal_that_does_not_fire_says_what_it_had() -> None:
    signal: Signal[str] = Signal("relay published")
    signal.fire("chunk 1")
    with pytest.raises(ConditionNotMet, match="relay published fires 2 times") as failure:
        await signal.count(2, within_s=0.05)
    assert "chunk 1" in str(failure.value)


async def test_a_gate_stops_the_code_until_the_test_opens_it() -> None:
    gate = Gate("before the commit")
    steps: list[str] = []

    async def code() -> None:
        steps.append("before")
        await gate.stop()
        steps.append("after")

    running = asyncio.create_task(code())
    await gate.reached()
    steps.append("test")
    gate.open()
    await running
    assert steps == ["before", "test", "after"]
    with pytest.raises(ConditionNotMet, match="before the commit"):
        await gate.reached(2, within_s=0.05)
