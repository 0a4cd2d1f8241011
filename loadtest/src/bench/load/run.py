"""One load test: the stack, what the scenario needs, k6, and how the system came out of it."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bench.errors import BenchError
from bench.load import scarce
from bench.load.driving import Driver
from bench.load.judging import judged
from bench.load.k6 import find_or_build, version_of
from bench.load.record import Loaded, LoadRecord
from bench.machine import describe
from bench.measuring import measuring
from bench.stage import commit, on_own_stack
from bench.usage import OWN, pids_of
from local_stack import Environment, Stack
from local_stack.seed import seed
from local_stack.streams import connection_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.load.plan import LoadPlan
    from bench.usage import Pids

URL_VARIABLE: Final = "STOREFRONT_URL"
NEEDED: Final = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL")
"""Of a stack that runs already."""
PID: Final = "PID_"


def run(plan: LoadPlan, state: Path, url: str | None, tell: Callable[[str], None]) -> LoadRecord:
    """Put a stack of its own under load, or the one at `url`, whose addresses the environment has.

    Raises BenchError, and what `on_own_stack` raises.
    """
    if url is not None:
        environment = _environment_of_running()
    k6 = find_or_build(tell)
    if url is None:
        return on_own_stack(
            Stack.whole, state, tell,
            lambda stack, environment: _on_own(plan, k6, stack, environment, tell),
        )  # fmt: skip
    return asyncio.run(_on_running(_Test(plan, k6, url, environment, _pids_told(), tell)))


@dataclass(frozen=True)
class _Test:
    """A run of k6 against one storefront, and all around it."""

    plan: LoadPlan
    k6: Path
    url: str
    environment: Environment
    pids: Pids
    tell: Callable[[str], None]

    async def run(self) -> Loaded:
        plan, connection = self.plan, connection_to(self.environment)
        scarce_id = scarce.new_id()
        if plan.scenario.crowd:
            await scarce.put(connection, plan, scarce_id)
        self.tell(f"{plan.scenario}: k6 against {self.url}")
        driver = Driver(self.k6, self.url, connection, self.pids, self.tell)
        driven = await driver.drive(
            plan.scenario.script, plan.settings(scarce_id), plan.period_s, plan.watch_s
        )
        self.tell("k6 is done; waiting for rest, then all invariants")
        rest_s, checked = await judged(self.environment, connection)
        if plan.scenario.crowd:
            checked.append(await scarce.taken(self.environment.database_url, plan, scarce_id))
        return Loaded(
            k6_version=version_of(self.k6),
            **driven._asdict(),
            rest_s=rest_s,
            checked=checked,
        )


async def _on_own(
    plan: LoadPlan, k6: Path, stack: Stack, environment: Environment, tell: Callable[[str], None]
) -> LoadRecord:
    url = environment.get(URL_VARIABLE)
    if url is None:
        raise BenchError("the stack has no storefront")
    await seed(connection_to(environment), tell)
    test = _Test(plan, k6, url, environment, pids_of(stack), tell)
    loaded: Loaded | None = None
    try:
        async with measuring(stack, environment, plan, tell, stamped=()) as found:
            loaded = await test.run()
    except BenchError as error:
        if loaded is None:
            raise
        tell(f"the yardsticks were not read again, the run counts all the same: {error}")
    return LoadRecord(**found.noted, plan=plan, loaded=loaded)


async def _on_running(test: _Test) -> LoadRecord:
    started_at, started_s = datetime.now(UTC), time.monotonic()
    machine = await describe(test.environment.database_url, "as it was")
    loaded = await test.run()
    return LoadRecord(
        started_at=started_at.isoformat(timespec="seconds"),
        took_s=time.monotonic() - started_s,
        commit=commit(),
        machine=machine,
        limits=None,
        plan=test.plan,
        loaded=loaded,
    )


def _environment_of_running() -> Environment:
    """The addresses of a stack that runs, as `make env` tells them."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise BenchError(
            f"{', '.join(missing)} not set: with --url the environment has to name the rest of the"
            " stack, as after `export $(make -s env)`"
        )
    return Environment(dict(os.environ))


def _pids_told() -> Pids:
    """The processes that the environment names; none where the stack is on other machines."""
    told = {
        name.removeprefix(PID).lower().replace("_", "-"): int(value)
        for name, value in os.environ.items()
        if name.startswith(PID) and value.isdigit()
    }
    return lambda: {**told, OWN: os.getpid()}
