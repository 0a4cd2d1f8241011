"""Service instances as child processes: started, killed, frozen, crashed and restarted at will.

    stock = Instance("stock.main", "stock-0", environment, folder=tmp_path)
    await stock.start()                       # returns once /readyz says yes
    await stock.kill()                        # SIGKILL, and it is gone
    await stock.start(crash_point="after_commit:3")
    assert await stock.exited() == CRASHED    # it ended itself the third time it came by
    await stock.start()                       # the same INSTANCE_ID and admin port, no crash point

Each instance keeps its identity over restarts, as a StatefulSet's pod does: its consumers are
static members, and its outbox leases are its own. Its log goes on in one file.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from shared.testing.ports import ReservedPort
from shared.testing.signals import ConditionNotMet, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

CRASHED: Final = 137
"""Exit code of a process that ended at its crash point."""
KILLED: Final = -signal.SIGKILL
TERMINATED: Final = -signal.SIGTERM

READY_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
"""A service that is told to stop finishes its chunk, commits and exits within this time (F40)."""
PROBE_TIMEOUT_S = 2.0
LOG_LINES_SHOWN = 40

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""What a child gets of the environment of the tests; all else a test says itself."""


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_the_tests() -> None:
    """Runs in the child before its program: the kernel kills it when the tests' process dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _state_of(pid: int) -> str:
    """A letter: `T` where the process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2][:1]


class InstanceFailed(AssertionError):  # noqa: N818 - what pytest shows reads as a sentence
    """An instance did something that the test did not ask for; the text ends with its log."""


class Instance:
    """One process of `python -m module`, known by its instance id."""

    def __init__(
        self,
        module: str,
        instance_id: str,
        environment: Mapping[str, str],
        *,
        folder: Path,
        arguments: tuple[str, ...] = (),
        port_variable: str = "ADMIN_PORT",
    ) -> None:
        """`environment` is all the settings; instance id and admin port are added, the port under
        `port_variable`. The log and the working folder of the process lie in `folder`."""
        self.module = module
        self.instance_id = instance_id
        self.starts = 0
        """How often it has been started."""
        self.log_path = folder / f"{instance_id}.log"
        self._folder = folder
        self._arguments = arguments
        self._port_variable = port_variable
        self._environment = dict(environment)
        self._admin_port = ReservedPort()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_frozen = False

    @property
    def admin_url(self) -> str:
        """Where /livez, /readyz, /metrics and operator actions are."""
        return f"http://127.0.0.1:{self._admin_port.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises InstanceFailed where it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise self._failed("does not run")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the last run: None while it runs, negative where a signal ended it."""
        return None if self._process is None else self._process.poll()

    def log(self) -> str:
        """All output of all runs so far."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def spawn(self, *, crash_point: str | None = None, **environment: str) -> None:
        """Starts the process and returns at once.

        `crash_point` is for this run alone, as `after_commit` or `after_commit:3` for the third
        time; `environment` is too, and wins over what the instance was made with.
        """
        if self.is_running:
            raise self._failed("runs already")
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = {name: os.environ[name] for name in INHERITED if name in os.environ}
        settings |= self._environment
        settings |= {
            "INSTANCE_ID": self.instance_id,
            self._port_variable: str(self._admin_port.port),
        }
        settings |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"} | environment
        if crash_point is not None:
            settings["CRASH_POINT"] = crash_point
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self._arguments],
                env=settings,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is the test's, which then stops its processes in order.
                start_new_session=True,
                preexec_fn=_die_with_the_tests,
            )
        self._is_frozen = False
        self.starts += 1

    async def start(
        self,
        *,
        crash_point: str | None = None,
        ready_within_s: float = READY_WITHIN_S,
        **environment: str,
    ) -> None:
        """Starts the process and waits until it is ready; see `spawn`.

        Raises InstanceFailed where it ends first or is not ready in time.
        """
        self.spawn(crash_point=crash_point, **environment)
        await self.wait_ready(within_s=ready_within_s)

    async def wait_ready(self, *, within_s: float = READY_WITHIN_S) -> None:
        """Returns once /readyz answers 200; raises InstanceFailed with what it said last."""

        async def answer() -> tuple[int, str]:
            if not self.is_running:
                return 0, ""
            response = await client.get("/readyz")
            return response.status_code, response.text

        async with self.admin() as client:
            try:
                status, _ = await eventually(
                    answer,
                    within_s=within_s,
                    describe=f"{self.instance_id} is ready",
                    accept=lambda answer: answer[0] in (0, 200),
                )
            except ConditionNotMet as failure:
                raise self._failed("is not ready", str(failure)) from failure
        if status == 0:
            raise self._failed(f"ended with {self.exit_code} before it was ready")

    def admin(self) -> httpx.AsyncClient:
        """A client of the admin port, to be used with `async with`."""
        return httpx.AsyncClient(base_url=self.admin_url, timeout=PROBE_TIMEOUT_S)

    async def readiness(self) -> dict[str, Any]:
        """The JSON that /readyz answers, whatever the status."""
        async with self.admin() as client:
            answer: dict[str, Any] = (await client.get("/readyz")).json()
            return answer

    async def exited(self, *, within_s: float = STOP_WITHIN_S) -> int:
        """Waits for the end of the process and returns its exit code."""
        try:
            await eventually(
                lambda: not self.is_running,
                within_s=within_s,
                describe=f"{self.instance_id} ends",
            )
        except ConditionNotMet as failure:
            raise self._failed(f"still runs after {within_s:.0f} s") from failure
        code = self.exit_code
        assert code is not None
        return code

    async def kill(self) -> None:
        """SIGKILL: no cleanup, no flush. Returns once the process is gone."""
        self._signal(signal.SIGKILL)
        await self.exited()

    async def terminate(self, *, within_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM, and waits for an orderly end; returns the exit code."""
        self._signal(signal.SIGTERM)
        return await self.exited(within_s=within_s)

    def freeze(self) -> None:
        """SIGSTOP: the process stands still in mid-step and holds what it holds."""
        self._signal(signal.SIGSTOP)
        self._is_frozen = True

    def thaw(self) -> None:
        """SIGCONT: a frozen process goes on as if no time had passed."""
        self._signal(signal.SIGCONT)
        self._is_frozen = False

    async def frozen(self, *, within_s: float = READY_WITHIN_S) -> None:
        """Returns once the process has stopped itself, at a crash point that freezes."""
        await eventually(
            lambda: _state_of(self.pid) == "T",
            within_s=within_s,
            describe=f"{self.instance_id} stands still",
        )
        self._is_frozen = True

    async def restart(self, *, ready_within_s: float = READY_WITHIN_S) -> None:
        """SIGKILL where it still runs, and a new start under the same identity."""
        if self.is_running:
            await self.kill()
        await self.start(ready_within_s=ready_within_s)

    async def stop(self) -> None:
        """Ends the process for good, in order where that is possible, and gives its port up."""
        try:
            if self.is_running:
                if self._is_frozen:
                    self.thaw()
                self._signal(signal.SIGTERM)
                try:
                    await self.exited()
                except InstanceFailed:
                    await self.kill()
        finally:
            self._admin_port.release()

    async def discard(self) -> None:
        """Kills the process where it runs, frozen or not, and gives its port up."""
        try:
            if self.is_running:
                await self.kill()
        finally:
            self._admin_port.release()

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _failed(self, what: str, detail: str = "") -> InstanceFailed:
        lines = self.log().splitlines()[-LOG_LINES_SHOWN:]
        log = "\n".join(f"  | {line}" for line in lines) or "  | (empty)"
        return InstanceFailed(f"{self.instance_id} {what}\n{detail}\nend of its log:\n{log}")
