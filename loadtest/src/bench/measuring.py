"""What every run does around its rounds: Postgres made fit, the yardsticks before and after, a bus.

Some runs put one service alone on its stack, in several instances, and several of its ways side by
side. What these share is here, too.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import asyncpg

from bench.bus import open_bus, stamp_by_broker
from bench.errors import BenchError
from bench.phases import Ground
from bench.stage import commit, no_limits, prepare, read_limits
from bench.usage import Meter, pids_of
from local_stack import SERVICES, STEPS, Environment, Stack
from local_stack.streams import connection_to
from shared.audit import Source
from shared.audit.counters import check_counters
from shared.contracts.topics import GROUPS, service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence

    from bench.plan import Yardsticks
    from bench.record import Limits, Machine
    from bench.stage import MakeStack

_T = TypeVar("_T")


class Measuring(NamedTuple):
    """What a run works on."""

    ground: Ground
    machine: Machine
    limits: Limits
    """Complete once the rounds are over."""

    @property
    def noted(self) -> dict[str, Any]:
        """What every record has of it. The times are filled in when the stack is gone."""
        return {
            "started_at": "",
            "took_s": 0.0,
            "commit": commit(),
            "machine": self.machine,
            "limits": self.limits,
        }


@asynccontextmanager
async def measuring(
    stack: Stack,
    environment: Environment,
    plan: Yardsticks,
    tell: Callable[[str], None],
    *,
    stamped: Sequence[str],
    groups: Collection[str] = tuple(GROUPS),
) -> AsyncIterator[Measuring]:
    """The block is what is measured. The broker's clock stamps the topics `stamped`, and `groups`
    are the consumer groups that the stack has."""
    connection, admin_url = connection_to(environment), environment.admin_database_url
    machine = await prepare(environment)
    if stamped:
        await stamp_by_broker(connection, stamped)
    limits = no_limits()
    await read_limits(limits, plan, admin_url, tell)
    async with AsyncExitStack() as opened:
        database = await asyncpg.connect(admin_url)
        opened.push_async_callback(database.close)
        bus = await opened.enter_async_context(open_bus(connection))
        ground = Ground(stack, connection, bus, database, Meter(pids_of(stack)), groups)
        yield Measuring(ground, machine, limits)
    await read_limits(limits, plan, admin_url, tell)


def alone(name: str, instances: int) -> MakeStack:
    """Makes a stack that has one service, in so many instances."""
    return partial(
        Stack,
        services=[service for service in SERVICES if service.name == name],
        steps=STEPS,
        replicas={name: instances},
    )


def groups_of(name: str) -> tuple[str, ...]:
    """The consumer groups of a service."""
    return tuple(group for group in GROUPS if service_of(group) == name)


async def expect_counters(environment: Environment, name: str) -> None:
    """Counters are their rows, or what they turn away would be wrong. Raises BenchError."""
    found = await check_counters(
        environment.database_url, environment.redis_url, [Source(name, name)]
    )
    if not found.ok:
        raise BenchError(f"the counters are not what their rows are: {found}")


def in_turn(cases: Sequence[Sequence[_T]], turn: int) -> Iterator[_T]:
    """All cells of a round: those of a case right after each other, since they are compared within
    the round, and all in an order of the round's own."""
    chance = random.Random(turn)
    for cells in chance.sample(cases, len(cases)):
        yield from chance.sample(cells, len(cells))
