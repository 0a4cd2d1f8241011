"""A stack of its own for one run, and the machine's limits beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from aiokafka.errors import KafkaError

from bench.errors import BenchError
from bench.machine import describe, loop, pgbench, put_off_checkpoints
from bench.record import Limits, Noted
from bench.traces import ENDPOINT_VARIABLE, SpanSink, open_sink
from local_stack import Environment, Stack
from local_stack.kafka import ADDRESS_VARIABLE
from local_stack.streams import connection_to, delete_topics, prefix_of_its_own

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from bench.plan import Yardsticks
    from bench.record import Machine
    from shared.kafka.connection import KafkaConnection

NEEDED_DISK_BYTES = 6 * 1024**3
"""Postgres keeps up to 4 GiB of its log, Kafka keeps every message, pgbench has tables."""
DELETE_WITHIN_S = 20.0

_R = TypeVar("_R", bound=Noted)


class MakeStack(Protocol):
    """Makes the stack of a run, as `Stack.whole` does."""

    def __call__(
        self,
        state: Path,
        /,
        *,
        environment: Mapping[str, str],
        owner_pid: int,
        tell: Callable[[str], None],
    ) -> Stack:
        """A stack that isn't up yet."""
        ...


def on_own_stack(
    make: MakeStack,
    state: Path,
    tell: Callable[[str], None],
    measure: Callable[[Stack, Environment], Coroutine[None, None, _R]],
) -> _R:
    """What `measure` finds on a stack of its own, which is gone afterwards.

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
        stack = make(state, environment=settings, owner_pid=os.getpid(), tell=tell)
        stack.wipe()
        try:
            environment = stack.up()
            with _topics_deleted(environment):
                measured = asyncio.run(measure(stack, environment))
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


async def prepare(environment: Environment) -> Machine:
    """Make the stack's Postgres fit for measuring; what machine it is."""
    broker = "outside" if os.environ.get(ADDRESS_VARIABLE) else "started here"
    machine = await describe(environment.admin_database_url, broker)
    await put_off_checkpoints(environment.admin_database_url)
    return machine


def no_limits() -> Limits:
    """To be filled by `read_limits`."""
    return Limits.model_construct(pgbench_tps=[], loop_per_s=[])


async def read_limits(
    limits: Limits, plan: Yardsticks, admin_url: str, tell: Callable[[str], None]
) -> None:
    """Read both yardsticks once more."""
    limits.loop_per_s.append(loop(plan.loop_s))
    tps = await pgbench(admin_url, scale=plan.pgbench_scale, seconds=plan.pgbench_s)
    limits.pgbench_tps.append(tps)
    tell(f"pgbench -N: {tps:,.0f} transactions a second")


def _spans(sink: SpanSink | None) -> int | None:
    return None if sink is None else sink.taken_bytes


def commit() -> str:
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
