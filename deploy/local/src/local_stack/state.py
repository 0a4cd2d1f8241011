"""What the supervisor writes down for everyone else: one file, replaced atomically."""

import json
import signal
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from local_stack.folder import StateFolder, read_json, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping


ANSWER_SIGNAL = signal.SIGUSR1
"""Asks the supervisor to write the state anew, with one answer more."""


class Phase(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class PartState:
    """One part, as it is now."""

    pid: int | None = None
    created: float | None = None
    """When that process started, seconds since the epoch: tells it from a later one of its pid."""
    healthy: bool = False
    detail: str = "not started"
    """Why it is not healthy; empty when it is."""
    starts: int = 0
    external: bool = False
    remark: str = ""


@dataclass(slots=True)
class State:
    """The whole stack, as it is now."""

    phase: Phase = Phase.STARTING
    supervisor_pid: int = 0
    answers: int = 0
    """How often the supervisor answered the question whether it is there."""
    failure: str = ""
    note: str = ""
    parts: dict[str, PartState] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, folder: StateFolder) -> None:
        # The environment holds passwords.
        write_atomically(folder.state_file, json.dumps(asdict(self), indent=2), mode=0o600)

    @classmethod
    def read(cls, folder: StateFolder) -> Self | None:
        """The state as last written, None where there is none."""
        value: Mapping[str, Any] | None = read_json(folder.state_file)
        if value is None:
            return None
        fields = dict(value)
        fields["phase"] = Phase(fields["phase"])
        fields["parts"] = {name: PartState(**part) for name, part in fields["parts"].items()}
        return cls(**fields)
