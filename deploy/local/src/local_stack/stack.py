"""The stack as its users see it: `up`, `down`, `env`, and what tests do to its parts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from local_stack.environment import Environment
from local_stack.errors import StackError
from local_stack.folder import StateFolder, read_json, remove_tree, write_atomically
from local_stack.kafka import ADDRESS_VARIABLE, told_of_outside_broker
from local_stack.layout import SERVICES, STEPS, Options, Service, Step
from local_stack.postgres import folder_of_other_user
from local_stack.processes import (
    MARKER,
    end_left_over,
    find_left_over,
    is_alive,
    tail,
    wait_until_gone,
)
from local_stack.state import ANSWER_SIGNAL, PartState, Phase, State

_POLL_S = 0.03
_STOP_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 5.0


class Stack:
    """One stack in one state folder. Several, in folders of their own, run side by side.

    Without `services` it is the infrastructure alone, and no step runs unless `steps` names it.
    """

    def __init__(
        self,
        state: Path | str,
        *,
        services: Sequence[Service] = (),
        steps: Sequence[Step] = (),
        replicas: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        """`options` are the other fields of `layout.Options`; `tell` is given what happens."""
        self.folder = StateFolder(state)
        self._tell = tell
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._options = Options(
            services=tuple(services),
            steps=tuple(steps),
            environment=dict(environment or {}),
            **options,
        ).with_replicas(replicas or {})

    @classmethod
    def whole(cls, state: Path | str, **options: Any) -> Self:
        """The whole system: every service, after migrations and topics."""
        return cls(state, services=SERVICES, steps=STEPS, **options)

    def up(self, *, as_asked: bool = False) -> Environment:
        """Start the stack and wait until all of it is healthy; no more than that where it is up.

        Raises StackError, with the end of the log of the part that failed; also, where it has to
        be `as_asked`, if it is up with other options.
        """
        with self.folder.locked():
            state = self._answer_of_supervisor()
            if state is not None and state.phase is Phase.RUNNING:
                if as_asked and not self._is_as_asked(state):
                    raise StackError(
                        f"the stack in {self.folder.path} is up with other options:"
                        " run `make down` first"
                    )
                self._tell("the stack is up already")
                return Environment(state.environment)
            self._clear()
            if "kafka" in self._options.infrastructure and os.environ.get(ADDRESS_VARIABLE):
                self._tell(told_of_outside_broker(self._options.topic_prefix))
            self._supervisor = self._launch()
            try:
                return Environment(self._await_running(self._supervisor).environment)
            except BaseException:
                self._end()
                raise

    def down(self) -> bool:
        """Stop everything; False where nothing ran. Raises StackError where something stays."""
        if not self.folder.is_of_a_stack():
            return False
        with self.folder.locked():
            return self._end()

    def wipe(self) -> bool:
        """Stop everything and delete all that it stored; False where nothing is there.

        Raises StackError, with nothing deleted, where the folder is no stack's.
        """
        if not self.folder.holds_anything():
            return False
        if not self.folder.is_of_a_stack():
            self.folder.remove()  # says why not, before a lock is put there
        with self.folder.locked():
            self._end()
            remove_tree(folder_of_other_user(self.folder))
            self.folder.remove()
        return True

    def running(self) -> bool:
        """Whether the stack is up, its start complete."""
        try:
            self._running_state()
        except StackError:
            return False
        return True

    def env(self) -> Environment:
        """Addresses and present pids. Raises StackError where the stack isn't up."""
        return Environment(self._running_state().environment)

    def parts(self) -> Mapping[str, PartState]:
        """Every part and how it is. Raises StackError where the stack isn't up."""
        return self._running_state().parts

    def part(self, name: str) -> PartState:
        try:
            return self.parts()[name]
        except KeyError:
            raise StackError(f"the stack has no part {name}") from None

    def pid(self, name: str) -> int:
        """The present process of a part. Raises StackError while it has none."""
        pid = self.part(name).pid
        if pid is None:
            raise StackError(f"{name} is not running: {self.part(name).detail}")
        return pid

    def log(self, name: str) -> Path:
        return self.folder.log(name)

    def wait_healthy(self, name: str, timeout_s: float = 60.0) -> int:
        """Wait until the part runs and answers; its pid. Raises StackError when time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            part = self.part(name)
            if part.healthy and part.external:
                return 0
            if part.healthy and part.pid is not None and is_alive(part.pid, part.created):
                return part.pid
            if time.monotonic() > deadline:
                raise StackError(f"{name} was not healthy within {timeout_s:.0f} s: {part.detail}")
            time.sleep(_POLL_S)

    def wait_all_healthy(self, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        for name in self.parts():
            self.wait_healthy(name, max(deadline - time.monotonic(), 0.0))

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End the part's process by a signal and wait until it is gone; its pid.

        The supervisor starts the part again at once: `wait_healthy` waits for that.
        """
        pid = self.pid(name)
        os.kill(pid, number)
        if not wait_until_gone(pid, timeout_s=30.0):
            raise StackError(f"{name} ({pid}) survived signal {number}")
        return pid

    def hold(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End the part and keep it down until `release`."""
        self.part(name)
        hold = self.folder.hold_file(name)
        hold.parent.mkdir(exist_ok=True)
        hold.touch()
        self.kill(name, number)

    def release(self, name: str, timeout_s: float = 60.0) -> int:
        """Let a held part start again and wait until it is healthy; its pid."""
        self.folder.hold_file(name).unlink(missing_ok=True)
        return self.wait_healthy(name, timeout_s)

    def override(self, name: str, environment: Mapping[str, str]) -> None:
        """Give the part further environment from its next start on; an empty one takes it back."""
        write_atomically(self.folder.override_file(name), json.dumps(dict(environment)))

    def _running_state(self) -> State:
        state = State.read(self.folder)
        pid = self.folder.supervisor_pid()
        if state is None or state.supervisor_pid != pid or state.phase is not Phase.RUNNING:
            raise StackError(f"the stack in {self.folder.path} is not up")
        return state

    def _answer_of_supervisor(self) -> State | None:
        """The state as a living supervisor has just written it; None where none answers.

        Its lock alone does not tell: a process that was sent SIGKILL holds it a moment longer.
        """
        pid = self.folder.supervisor_pid()
        before = State.read(self.folder)
        if pid is None or before is None or before.supervisor_pid != pid:
            return None
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, ANSWER_SIGNAL)
        while self.folder.supervisor_pid() == pid and time.monotonic() < deadline:
            state = State.read(self.folder)
            if state is not None and state.answers > before.answers:
                return state
            time.sleep(_POLL_S)
        return None

    def _is_as_asked(self, state: State) -> bool:
        """Whether a running stack was asked for the same. Who owns it makes no difference."""
        written = read_json(self.folder.options_file)
        broker = os.environ.get(ADDRESS_VARIABLE)
        if written is None or broker not in (None, "", state.environment.get(ADDRESS_VARIABLE)):
            return False
        asked = json.loads(json.dumps(self._options.to_json()))
        return {**asked, "owner_pid": None} == {**written, "owner_pid": None}

    def _clear(self) -> None:
        """End what a crash left, and forget what it wrote down about itself."""
        if self._end():
            self._tell("ended what an earlier start had left behind")
        for name in ("hold", "override"):
            for file in (self.folder.path / name).glob("*"):
                file.unlink()

    def _launch(self) -> "subprocess.Popen[bytes]":
        write_atomically(self.folder.options_file, json.dumps(self._options.to_json(), indent=2))
        path = str(self.folder.path)
        descriptor = self.folder.open_log("supervisor")
        try:
            return subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-m",
                    "local_stack",
                    "supervise",
                    "--state",
                    path,
                ],
                env={**os.environ, MARKER: path},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def _await_running(self, supervisor: "subprocess.Popen[bytes]") -> State:
        offset = self.folder.log("supervisor").stat().st_size
        told: set[str] = set()
        while True:
            state = State.read(self.folder)
            if state is not None and state.supervisor_pid == supervisor.pid:
                self._tell_of(state, told)
                if state.phase is Phase.RUNNING:
                    return state
                if state.failure and state.phase is Phase.FAILED:
                    raise StackError(state.failure)
            if supervisor.poll() is not None:
                state = State.read(self.folder)
                if state is not None and state.failure:
                    raise StackError(state.failure)
                end = tail(self.folder.log("supervisor"), offset)
                raise StackError(f"the supervisor ended; the end of its log:\n{end}")
            time.sleep(_POLL_S)

    def _tell_of(self, state: State, told: set[str]) -> None:
        for name, part in state.parts.items():
            if part.healthy and name not in told:
                told.add(name)
                self._tell(f"{name} is up" + (f"; {part.remark}" if part.remark else ""))
        if state.note and state.note not in told:
            told.add(state.note)
            self._tell(state.note)

    def _end(self) -> bool:
        """Stop the supervisor, then whatever of the stack still runs; whether anything did."""
        pid = self.folder.supervisor_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)  # a frozen one would not hear it
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            while self.folder.supervisor_pid() == pid and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        left = end_left_over(self.folder.path, (folder_of_other_user(self.folder),))
        self.folder.state_file.unlink(missing_ok=True)
        if self._supervisor is not None:
            self._supervisor.wait()
            self._supervisor = None
        if find_left_over(self.folder.path):
            raise StackError(f"a process of the stack in {self.folder.path} can't be ended")
        return pid is not None or bool(left)
