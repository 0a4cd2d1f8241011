"""The process that keeps a stack up: `python -m local_stack supervise --state DIR`.

It starts the infrastructure side by side, runs the steps (migrations, topics) once that is
healthy, then starts the services; whatever dies is started again. On SIGTERM it stops all in
reverse order. When it is killed itself, the kernel ends its children; what survives even that is
found by the next command (see `processes.find_left_over`).
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from local_stack.errors import PartError, StackError
from local_stack.folder import StateFolder, read_json
from local_stack.gateway import Gateway
from local_stack.kafka import ADDRESS_VARIABLE, ExternalKafka, Kafka
from local_stack.kafka_jars import missing_tools
from local_stack.kafka_trial import TrialKafka, is_installed
from local_stack.keeper import Keeper
from local_stack.layout import (
    PREFIX_VARIABLE,
    STOREFRONT,
    STOREFRONT_PORT,
    Options,
    Step,
)
from local_stack.part import Part, Tool
from local_stack.ports import PortBook
from local_stack.postgres import Postgres
from local_stack.processes import is_alive
from local_stack.program import Program, variable
from local_stack.state import ANSWER_SIGNAL, Phase, State
from local_stack.valkey import Valkey

log = logging.getLogger("local_stack")

_OWNER_POLL_S = 0.5
_STEP_TIMEOUT_S = 120.0


class Supervisor:
    """All parts of one stack, and the state file that tells of them."""

    def __init__(self, folder: StateFolder, options: Options) -> None:
        self._folder = folder
        self._options = options
        self._state = State(supervisor_pid=os.getpid())
        ports = PortBook(folder.ports_file, options.ports)
        if any(service.name == STOREFRONT.name for service in options.services):
            ports.prefer(f"{STOREFRONT.name}-0-http", STOREFRONT_PORT)
        self._infrastructure = [
            self._keeper(part) for part in infrastructure(folder, ports, options)
        ]
        self._services = [
            self._keeper(Program(service, number, folder, ports, self._settings))
            for service in options.services
            for number in range(service.replicas)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._started = time.monotonic()

    async def run(self, stop: asyncio.Event) -> int:
        """Bring the stack up, keep it until `stop` is set, take it down; the exit code."""
        code = 0
        starting = asyncio.ensure_future(self._start())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._phase(Phase.RUNNING)
                await self._keep_until(stopping)
        except StackError as error:
            log.error("%s", error)  # noqa: TRY400 - the message says it all
            self._state.failure = str(error)
            code = 1
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._stop()
            self._phase(Phase.FAILED if code else Phase.STOPPED)
        return code

    async def _start(self) -> None:
        self._phase(Phase.STARTING)
        await together(keeper.start() for keeper in self._infrastructure)
        # From now on what dies is started again, also while the steps run.
        self._tasks += [asyncio.create_task(keeper.keep()) for keeper in self._infrastructure]
        for step in self._options.steps:
            await self._run_step(step)
        await together(keeper.start() for keeper in self._services)
        self._tasks += [asyncio.create_task(keeper.keep()) for keeper in self._services]

    async def _run_step(self, step: Step) -> None:
        self._state.note = f"running {step.name}"
        self._changed()
        tool = Tool(step.name, self._folder, self._folder.part_folder(f"steps/{step.name}"))
        await tool.run(
            [sys.executable, "-m", step.module, *step.arguments],
            environment=self._settings(),
            timeout_s=_STEP_TIMEOUT_S,
        )
        self._state.note = ""

    async def _keep_until(self, stopping: "asyncio.Future[Any]") -> None:
        """Wait for the end, by request, by the owner's death, or by a bug in a keeper."""
        owner = asyncio.create_task(self._watch_owner())
        watched: list[asyncio.Future[Any]] = [stopping, owner, *self._tasks]
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            owner.cancel()

    async def _watch_owner(self) -> None:
        pid = self._options.owner_pid
        while pid is None or is_alive(pid):  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(_OWNER_POLL_S)
        log.info("process %d, to which this stack belongs, is gone", pid)

    async def _stop(self) -> None:
        if self._state.phase is not Phase.FAILED:
            self._phase(Phase.STOPPING)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for group in (self._services, self._infrastructure):
            await asyncio.gather(*(keeper.stop() for keeper in group))

    def answer(self) -> None:
        """Show that this process is there and at work, not about to die of a signal."""
        self._state.answers += 1
        self._changed()

    def _keeper(self, part: Part) -> Keeper:
        keeper = Keeper(part, self._changed, self._options.start_timeout_s)
        self._state.parts[part.name] = keeper.state
        return keeper

    def _addresses(self) -> dict[str, str]:
        """What one needs to reach the infrastructure, passwords included."""
        prefix = self._options.topic_prefix
        found = {PREFIX_VARIABLE: prefix} if prefix else {}
        for keeper in self._infrastructure:
            found.update(keeper.part.addresses())
        return found

    def _settings(self) -> dict[str, str]:
        """What steps and services are given."""
        return {**self._addresses(), **self._options.environment}

    def _phase(self, phase: Phase) -> None:
        self._state.phase = phase
        log.info("%s, %.1f s after the start", phase.value, time.monotonic() - self._started)
        self._changed()

    def _changed(self) -> None:
        environment = self._addresses()
        for keeper in self._services:
            environment.update(keeper.part.addresses())
        for name, part in self._state.parts.items():
            if part.pid is not None:
                environment[f"PID_{variable(name)}"] = str(part.pid)
        environment["PID_SUPERVISOR"] = str(os.getpid())
        self._state.environment = environment
        self._state.write(self._folder)


def infrastructure(folder: StateFolder, ports: PortBook, options: Options) -> Sequence[Part]:
    """The servers that are asked for; the broker is the one that the environment names, if any."""
    parts: list[Part] = []
    for name in options.infrastructure:
        match name:
            case "postgres":
                parts.append(Postgres(folder, ports))
            case "valkey":
                parts.append(Valkey(folder, ports))
            case "gateway":
                parts.append(Gateway(folder, ports))
            case "kafka" if os.environ.get(ADDRESS_VARIABLE):
                parts.append(ExternalKafka(folder, ports, options))
            case "kafka" if options.allow_trial_broker and missing_tools() and is_installed():
                parts.append(TrialKafka(folder, ports))
            case "kafka":
                parts.append(Kafka(folder, ports, options.kafka_proxy_port))
            case _:
                raise PartError(f"there is no {name} to start")
    return parts


async def together(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait for all jobs; when one fails, call the others off and raise its error."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def supervise(folder: StateFolder) -> int:
    """Run the stack that options.json in `folder` describes; the exit code."""
    options = read_json(folder.options_file)
    if options is None:
        raise StackError(f"{folder.options_file} is missing")
    signal.signal(ANSWER_SIGNAL, signal.SIG_IGN)  # until there is somebody to answer
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        supervisor = Supervisor(folder, Options.from_json(options))
    except PartError as error:
        State(phase=Phase.FAILED, failure=str(error)).write(folder)
        return 1
    loop.add_signal_handler(ANSWER_SIGNAL, supervisor.answer)
    return await supervisor.run(stop)


def main(folder: StateFolder) -> int:
    """The supervisor's process, from lock to exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # probes say it in the state file
    if not folder.hold_supervisor_lock():
        log.error("another supervisor holds %s", folder.path)
        return 1
    return asyncio.run(supervise(folder))
