"""Keeps one part running: starts it, waits for its health, starts it again when it dies."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from local_stack.errors import PartError, StackError
from local_stack.folder import read_json
from local_stack.part import Part
from local_stack.processes import MARKER, end_left_over_in, spawn, stop, tail, wait_for_exit
from local_stack.state import PartState

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger("local_stack")

ATTEMPTS = 3
"""How often a part may die while the stack starts, before the start fails."""

_PROBE_FAST_S = 0.1
_PROBE_SLOW_S = 2.0
_PAUSE_FIRST_S = 0.2
_PAUSE_MOST_S = 10.0
_STEADY_AFTER_S = 3.0
"""Who lived this long is started again at once, without the pause of those who die at the start."""
_HOLD_POLL_S = 0.05


class Keeper:
    """One part under watch. `changed` is called whenever `state` has changed."""

    def __init__(self, part: Part, changed: Callable[[], None], start_timeout_s: float) -> None:
        self.part = part
        self.state = PartState(external=part.external, remark=part.remark)
        self._changed = changed
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    async def start(self) -> None:
        """Start the part and wait until it is healthy. Raises PartError with all that is known."""
        deadline = time.monotonic() + min(self._start_timeout_s, self.part.start_timeout_s)
        for attempt in range(1, ATTEMPTS + 1):
            await self._launch()
            code = await self._until_healthy_or_ended(deadline)
            if self.state.healthy:
                await self.part.before_first_use()
                # From here on others know its ports: it has to come back on the same ones.
                self.part.ports.settle(self.part.port_names)
                return
            said = self.state.detail
            await self.stop()
            if code is None and self.part.external:
                raise PartError(f"{self.part.absence} ({said})")
            if code is None:
                raise PartError(self._failure(f"was not healthy in time ({said})"))
            if attempt == ATTEMPTS:
                raise PartError(self._failure(f"ended with {describe(code)}, {ATTEMPTS} times"))
            # The likeliest cause that goes away by itself: somebody else took its port.
            for name in self.part.port_names:
                self.part.ports.forget(name)

    async def keep(self) -> None:
        """Watch the part and start it again whenever it ends; returns never, and is cancelled."""
        pause_s = 0.0
        while True:
            started = time.monotonic()
            code = await self._watch()
            if time.monotonic() - started > _STEADY_AFTER_S:
                pause_s = 0.0
            self._set(pid=None, healthy=False, detail=f"ended with {describe(code)}")
            log.warning("%s %s", self.part.name, self.state.detail)
            while self._process is None:
                await asyncio.sleep(pause_s)
                pause_s = min(max(pause_s * 2, _PAUSE_FIRST_S), _PAUSE_MOST_S)
                await self._wait_while_held()
                try:
                    await self._launch()
                except (StackError, OSError) as error:
                    self._set(detail=str(error))
                    log.warning("%s can't be started again: %s", self.part.name, error)

    async def stop(self) -> None:
        """End the process, by force where it does not listen."""
        if self._process is not None:
            await stop(self._process, self.part.stop_signal, self.part.stop_grace_s)
            self._process = None
        await self.part.close()
        self._set(pid=None, healthy=False, detail="stopped")

    async def _launch(self) -> None:
        if self.part.external:
            return
        part = self.part
        # What a killed process left behind (backends of Postgres) holds its data and its port.
        end_left_over_in(part.folder)
        await part.prepare()
        output = part.state_folder.open_log(part.name)
        self._log_offset = os.fstat(output).st_size
        override = read_json(part.state_folder.override_file(part.name)) or {}
        try:
            self._process = spawn(
                part.command(),
                environment={
                    **os.environ,
                    **part.environment(),
                    **override,
                    MARKER: str(part.state_folder.path),
                },
                folder=part.folder,
                log=output,
                death_signal=part.death_signal,
            )
        except OSError as error:
            raise PartError(f"{part.name} can't be run: {error}") from error
        finally:
            os.close(output)
        pid = self._process.pid
        try:
            created = psutil.Process(pid).create_time()
        except psutil.Error:
            created = time.time()
        self._set(pid=pid, created=created, healthy=False, detail="starting")
        self.state.starts += 1
        self._changed()

    async def _until_healthy_or_ended(self, deadline: float) -> int | None:
        """Exit code where it ended; None where it is healthy or the time is up."""
        while not self.state.healthy and time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                return self._process.wait()
            await self._probe()
            if not self.state.healthy:
                await asyncio.sleep(_PROBE_FAST_S)
        return None

    async def _watch(self) -> int:
        """Probe until the process ends; its exit code."""
        if self._process is None:  # it runs elsewhere
            while True:
                await self._probe_and_wait()
        ended = asyncio.ensure_future(wait_for_exit(self._process))
        try:
            while not ended.done():
                probing = asyncio.ensure_future(self._probe_and_wait())
                await asyncio.wait((ended, probing), return_when=asyncio.FIRST_COMPLETED)
                if not probing.done():
                    probing.cancel()
                    await asyncio.gather(probing, return_exceptions=True)
        finally:
            ended.cancel()
        self._process = None
        return ended.result()

    async def _probe_and_wait(self) -> None:
        await self._probe()
        await asyncio.sleep(_PROBE_SLOW_S if self.state.healthy else _PROBE_FAST_S)

    async def _probe(self) -> None:
        try:
            await self.part.probe()
        except Exception as error:  # noqa: BLE001 - whatever a client raises, it is no good answer
            self._set(healthy=False, detail=str(error) or type(error).__name__)
        else:
            self._set(healthy=True, detail="")

    async def _wait_while_held(self) -> None:
        held = self.part.state_folder.hold_file(self.part.name)
        while held.exists():
            self._set(detail="held down on request")
            await asyncio.sleep(_HOLD_POLL_S)

    def _set(self, **values: object) -> None:
        before = [getattr(self.state, name) for name in values]
        if before != list(values.values()):
            for name, value in values.items():
                setattr(self.state, name, value)
            self._changed()

    def _failure(self, what: str) -> str:
        file = self.part.state_folder.log(self.part.name)
        end = tail(file, self._log_offset) or "(it wrote nothing)"
        return f"{self.part.name} {what}; the end of {file}:\n{end}"


def describe(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
