"""What the supervisor has to know of a part of the stack."""

import asyncio
import contextlib
import math
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_stack.errors import PartError
from local_stack.folder import StateFolder
from local_stack.ports import PortBook
from local_stack.processes import MARKER, spawn, stop, tail, wait_for_exit

TOOL_TIMEOUT_S = 120.0


class Part(ABC):
    """One process that is started, watched and stopped."""

    stop_signal = signal.SIGTERM
    death_signal = signal.SIGKILL
    """Sent by the kernel when the supervisor dies. All parts are built to survive a kill."""
    stop_grace_s = 10.0
    remark = ""
    """What people are told when it is up."""
    external = False
    """Whether it runs elsewhere: then it is only asked how it is."""
    absence = ""
    """What people are told where it runs elsewhere and does not answer."""
    start_timeout_s = math.inf
    """How long it is waited for at most, however long the stack may take."""

    def __init__(self, name: str, folder: StateFolder, ports: PortBook) -> None:
        self.name = name
        self.state_folder = folder
        self.ports = ports

    @property
    def port_names(self) -> tuple[str, ...]:
        """The names under which its ports stand in the port book."""
        return (self.name,)

    @property
    def folder(self) -> Path:
        """Its working folder."""
        return self.state_folder.part_folder(self.name)

    async def prepare(self) -> None:  # noqa: B027 - not every part needs it
        """Make ready what a start needs. Raises PartError with a reason a person understands."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments."""

    def environment(self) -> Mapping[str, str]:
        """What its environment has beyond the supervisor's own."""
        return {}

    @abstractmethod
    async def probe(self) -> None:
        """Ask it for a sign of health; raises Unhealthy, OSError or TimeoutError."""

    async def before_first_use(self) -> None:  # noqa: B027 - not every part needs it
        """Run once after it first answers and before anything uses it."""

    def addresses(self) -> Mapping[str, str]:
        """What others need to reach it, by name of environment variable."""
        return {}

    async def close(self) -> None:  # noqa: B027 - not every part needs it
        """Let go of what the probes hold."""


class Tool:
    """A program that a part runs to its end while it prepares."""

    def __init__(self, part: str, folder: StateFolder, working_folder: Path) -> None:
        self._part = part
        self._state = folder
        self._working_folder = working_folder

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        timeout_s: float = TOOL_TIMEOUT_S,
    ) -> None:
        """Run it; its output goes to the part's log. Raises PartError unless it exits with 0."""
        log = self._state.log(self._part)
        offset = log.stat().st_size if log.exists() else 0
        descriptor = self._state.open_log(self._part)
        try:
            process = spawn(
                command,
                environment={
                    **os.environ,
                    **(environment or {}),
                    MARKER: str(self._state.path),
                },
                folder=self._working_folder,
                log=descriptor,
                death_signal=signal.SIGKILL,
            )
        except OSError as error:
            raise PartError(f"{command[0]} can't be run: {error}") from error
        finally:
            os.close(descriptor)
        code: int | None = None
        try:
            with contextlib.suppress(TimeoutError):
                code = await asyncio.wait_for(wait_for_exit(process), timeout_s)
        finally:
            await stop(process, signal.SIGTERM, 2.0)
        if code != 0:
            how = f"took longer than {timeout_s:.0f} s" if code is None else f"exited with {code}"
            raise PartError(
                f"{Path(command[0]).name} {how}; the end of {log}:\n{tail(log, offset)}"
            )
