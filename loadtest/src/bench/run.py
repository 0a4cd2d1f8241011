"""One run: the stack, the yardsticks, the rounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
from aiokafka.errors import KafkaError

from bench.bus import open_bus, stamp_by_broker
from bench.errors import BenchError
from bench.latencies import quantile
from bench.machine import describe, loop, pgbench, put_off_checkpoints
from bench.phases import STAMPED, Ground, at_rate, drain_commands, drain_orders
from bench.record import Limits, Phase, Record, Repeat
from bench.traces import ENDPOINT_VARIABLE, SpanSink, open_sink
from bench.usage import Meter
from local_stack import Environment, Stack
from local_stack.kafka import ADDRESS_VARIABLE
from local_stack.seed import seed
from local_stack.streams import connection_to, delete_topics, prefix_of_its_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bench.plan import Plan
    from shared.kafka.connection import KafkaConnection

NEEDED_DISK_BYTES = 6 * 1024**3
"""Postgres keeps up to 4 GiB of its log, Kafka keeps every message, pgbench has tables."""
DELETE_WITHIN_S = 20.0


def run(plan: Plan, state: Path, tell: Callable[[str], None]) -> Record:
    """Measure everything on a stack of its own, which is gone afterwards.

    Where it fails, the stack is stopped and its logs stay. Raises BenchError, StackError, and the
    errors of database and broker.
    """
    check_disk(state)
    if Stack(state).running():
        raise BenchError(
            f"another benchmark, or a stack, is at work in {state}: wait for it, or take another"
            " folder with --state"
        )
    started_at, started = datetime.now(UTC), time.monotonic()
    with open_sink() as sink:
        settings = prefix_of_its_own("bench")
        if sink is not None:
            settings[ENDPOINT_VARIABLE] = sink.url
        stack = Stack.whole(state, environment=settings, owner_pid=os.getpid(), tell=tell)
        stack.wipe()
        try:
            environment = stack.up()
            with _topics_deleted(environment):
                measured = asyncio.run(_measure(plan, stack, environment, tell))
        except KeyboardInterrupt:
            stack.wipe()
            raise
        except BaseException:
            stack.down()
            tell(f"the logs of this run: {stack.folder.logs}")
            raise
        stack.wipe()
        measured.started_at = started_at.isoformat(timespec="seconds")
        measured.took_s = time.monotonic() - started
        measured.spans_bytes = _spans(sink)
    return measured


def check_disk(state: Path, needed_bytes: int = NEEDED_DISK_BYTES) -> None:
    """Raises BenchError where the disk of `state` has too little room."""
    there = state.absolute()
    while not there.exists():
        there = there.parent
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise BenchError(
            f"{there} has {free_bytes / 1024**3:.1f} GiB left, and a run needs up to"
            f" {needed_bytes / 1024**3:.0f}: make room, or take another disk with --state"
        )


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
    connection = connection_to(environment)
    admin_url = environment.admin_database_url
    machine = await describe(admin_url, _broker(environment))
    await put_off_checkpoints(admin_url)
    await seed(connection, tell)
    await stamp_by_broker(connection, STAMPED)
    limits = Limits.model_construct(pgbench_tps=[], loop_per_s=[])
    await _read_limits(limits, plan, admin_url, tell)
    database = await asyncpg.connect(admin_url)
    try:
        async with open_bus(connection) as bus:
            ground = Ground(stack, connection, bus, database, Meter(stack))
            phases = await _Rounds(ground, plan, tell).take(limits)
            memory = ground.meter.memory()
    finally:
        await database.close()
    await _read_limits(limits, plan, admin_url, tell)
    return Record(
        started_at="",
        took_s=0.0,
        commit=_commit(),
        plan=plan,
        machine=machine,
        limits=limits,
        phases=phases,
        memory_bytes=memory,
    )


async def _read_limits(
    limits: Limits, plan: Plan, admin_url: str, tell: Callable[[str], None]
) -> None:
    limits.loop_per_s.append(loop(plan.loop_s))
    tps = await pgbench(admin_url, scale=plan.pgbench_scale, seconds=plan.pgbench_s)
    limits.pgbench_tps.append(tps)
    tell(f"pgbench -N: {tps:,.0f} transactions a second")


def _slowness(done: Repeat) -> str:
    return f"p50 {quantile(done.latency_ms, 0.5)} ms, p99 {quantile(done.latency_ms, 0.99)} ms"


def _broker(environment: Mapping[str, str]) -> str:
    return "outside" if os.environ.get(ADDRESS_VARIABLE) else "started here"


def _spans(sink: SpanSink | None) -> int | None:
    return None if sink is None else sink.taken_bytes


def _commit() -> str:
    """The commit that was measured, as far as git tells; `+` after it: with changes."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.stdout.strip()


@contextlib.contextmanager
def _topics_deleted(environment: Environment) -> Iterator[None]:
    """Leaves no topic of a run on a broker of the environment's."""
    try:
        yield
    finally:
        if os.environ.get(ADDRESS_VARIABLE):
            with contextlib.suppress(KafkaError, TimeoutError, OSError):
                asyncio.run(_delete(connection_to(environment)))


async def _delete(connection: KafkaConnection) -> None:
    async with asyncio.timeout(DELETE_WITHIN_S):
        await delete_topics(connection)
