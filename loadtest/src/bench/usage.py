"""What each process of the stack uses: processor time, read while a phase runs, and memory."""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_right
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import psutil

from bench.record import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import TypeAlias

    from local_stack import Stack

    Pids: TypeAlias = Callable[[], Mapping[str, int]]
    """Tells the process of each part that has one now."""

PERIOD_S = 0.5
OTHERS, STOLEN = "(others)", "(stolen)"
OWN, SUPERVISOR = "bench", "supervisor"
POSTGRES = "postgres"


class Reading(NamedTuple):
    """Processor seconds since the meter was made, by part, at one moment."""

    at: float
    """Seconds since the epoch, as the broker's timestamps are."""
    cpu_s: dict[str, float]


class Meter:
    """Reads the processor times of all parts, over their restarts."""

    def __init__(self, pids: Pids) -> None:
        self._pids = pids
        self._seen: dict[tuple[str, int, float], float] = {}
        """Part, pid and start of a process -> its processor time when it was last seen."""
        self._readings: list[Reading] = []
        """Since the last `reading` began."""

    def read(self) -> Reading:
        """Take a reading: some milliseconds of work."""
        for name, pid in self._pids().items():
            try:
                process = psutil.Process(pid)
                used = _tree_s(process) if name == POSTGRES else _own_s(process)
                self._seen[name, pid, process.create_time()] = used
            except psutil.Error:
                continue  # it has just ended; what it used is known up to the last reading
        totals: dict[str, float] = {}
        for (name, _, _), used in self._seen.items():
            totals[name] = totals.get(name, 0.0) + used
        machine = psutil.cpu_times()
        busy = machine.user + machine.system + machine.nice + machine.irq + machine.softirq
        totals[OTHERS] = busy - sum(totals.values())
        totals[STOLEN] = getattr(machine, "steal", 0.0)
        self._readings.append(Reading(time.time(), totals))
        return self._readings[-1]

    @asynccontextmanager
    async def reading(self, period_s: float | None) -> AsyncIterator[None]:
        """Read at both ends of the block, and meanwhile every `period_s` unless that is None.

        Reading delays this process by milliseconds: not while it measures latencies.
        """
        self._readings.clear()
        self.read()
        task = asyncio.create_task(self._read_every(period_s)) if period_s else None
        try:
            yield
            self.read()
        finally:
            if task is not None:
                task.cancel()

    def usage(self, start: float, end: float) -> Usage:
        """What was used between two moments (seconds since the epoch), as far as it was read.

        Between two readings use is taken to be even.
        """
        return usage_between(self._readings, start, end)

    def memory(self) -> dict[str, int]:
        """Resident bytes of each part now."""
        found = {}
        for name, pid in self._pids().items():
            try:
                process = psutil.Process(pid)
                found[name] = _memory_of_tree(process) if name == POSTGRES else _rss(process)
            except psutil.Error:
                continue
        return found

    async def _read_every(self, period_s: float) -> None:
        while True:
            await asyncio.sleep(period_s)
            self.read()


def pids_of(stack: Stack) -> Pids:
    """The present processes of a stack, its supervisor and this process."""

    def pids() -> dict[str, int]:
        found = {name: part.pid for name, part in stack.parts().items()}
        found |= {OWN: os.getpid(), SUPERVISOR: stack.folder.supervisor_pid()}
        return {name: pid for name, pid in found.items() if pid is not None}

    return pids


def usage_between(readings: list[Reading], start: float, end: float) -> Usage:
    """What was used between two moments. Raises ValueError without readings."""
    if not readings:
        raise ValueError("nothing was read")
    first, last = max(start, readings[0].at), min(end, readings[-1].at)
    before, after = _at(readings, first), _at(readings, last)
    used = {name: max(after[name] - before.get(name, 0.0), 0.0) for name in after}
    others, stolen = used.pop(OTHERS, 0.0), used.pop(STOLEN, 0.0)
    return Usage(window_s=max(last - first, 0.0), cpu_s=used, others_s=others, stolen_s=stolen)


def base_name(name: str) -> str:
    """The name of a part without the number of the replica."""
    base, _, end = name.rpartition("-")
    return base if end.isdigit() else name


def _at(readings: list[Reading], moment: float) -> dict[str, float]:
    place = bisect_right([one.at for one in readings], moment)
    if place >= len(readings):
        return readings[-1].cpu_s
    before, after = readings[max(place - 1, 0)], readings[place]
    share = (moment - before.at) / (after.at - before.at) if after.at > before.at else 0.0
    return {
        name: before.cpu_s.get(name, 0.0) + share * (value - before.cpu_s.get(name, 0.0))
        for name, value in after.cpu_s.items()
    }


def _own_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree_s(process: psutil.Process) -> float:
    """Its own, that of its living children, and that of those which ended."""
    times = process.cpu_times()
    used = float(times.user + times.system + times.children_user + times.children_system)
    for child in process.children():
        try:
            used += _own_s(child)
        except psutil.Error:
            continue
    return used


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _memory_of_tree(process: psutil.Process) -> int:
    """Each page that several processes share counts once, where the kernel tells."""
    total = 0
    for one in (process, *process.children()):
        try:
            total += int(one.memory_full_info().pss)
        except psutil.AccessDenied:
            total += _rss(one)
        except psutil.NoSuchProcess:
            continue
    return total
