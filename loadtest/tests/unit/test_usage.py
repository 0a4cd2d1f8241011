"""Processor time within a window, from readings that were not taken at its ends."""

from __future__ import annotations

import os

import psutil
import pytest

from bench.usage import OTHERS, STOLEN, Meter, Reading, pids_of, usage_between
from local_stack import Stack
from local_stack.state import PartState


def reading(at: float, **cpu_s: float) -> Reading:
    return Reading(at, {OTHERS: 0.0, STOLEN: 0.0, **cpu_s})


def test_use_between_two_readings_is_even() -> None:
    found = usage_between([reading(10, stock=1.0), reading(12, stock=2.0)], 10.5, 11.5)
    assert found.window_s == pytest.approx(1.0)
    assert found.cpu_s == {"stock": pytest.approx(0.5)}


def test_a_window_wider_than_the_readings_is_cut_to_them() -> None:
    found = usage_between([reading(10, stock=1.0), reading(12, stock=2.0)], 0, 99)
    assert found.window_s == pytest.approx(2.0)
    assert found.cpu_s["stock"] == pytest.approx(1.0)


def test_a_part_that_started_meanwhile_counts_from_nothing() -> None:
    found = usage_between([reading(10), reading(11, stock=0.7)], 10, 11)
    assert found.cpu_s == {"stock": pytest.approx(0.7)}


def test_others_and_what_was_stolen_are_no_part_of_the_stack() -> None:
    first = Reading(0.0, {"stock": 1.0, OTHERS: 5.0, STOLEN: 2.0})
    last = Reading(1.0, {"stock": 1.5, OTHERS: 5.25, STOLEN: 2.5})
    found = usage_between([first, last], 0, 1)
    assert (found.cpu_s, found.others_s, found.stolen_s) == ({"stock": 0.5}, 0.25, 0.5)


class OnePart(Stack):
    """A stack whose one part is this process, over restarts that never were."""

    def __init__(self, pid: int | None) -> None:
        super().__init__("unused")
        self.known = pid

    def parts(self) -> dict[str, PartState]:
        return {"stock-0": PartState(pid=self.known)}


async def test_what_a_part_used_before_it_ended_is_not_forgotten() -> None:
    stack = OnePart(os.getpid())
    meter = Meter(pids_of(stack))
    async with meter.reading(None):
        stack.known = None
    used = psutil.Process().cpu_times()
    meter.read()
    found = meter._readings[-1].cpu_s
    assert 0 < found["stock-0"] <= used.user + used.system
    assert found["bench"] > 0


def test_the_memory_of_each_part_is_read() -> None:
    found = Meter(pids_of(OnePart(os.getpid()))).memory()
    assert found["stock-0"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
