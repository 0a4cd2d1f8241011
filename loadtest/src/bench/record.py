"""The raw figures of one run, as they lie in its JSON file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field, ValidationError

from bench.errors import BenchError
from bench.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

BIN_MS = 500
MAX_FILE_BYTES = 20_000_000


class Usage(BaseModel):
    """What was used within a window of time. Processor times are seconds of one core."""

    window_s: float
    cpu_s: dict[str, float]
    """By part of the stack; `bench` is the benchmark itself, `supervisor` watches the parts."""
    others_s: float
    """Used by nobody of these: other programs, and the kernel on nobody's account."""
    stolen_s: float
    """Wanted by this machine and given to another one by the hypervisor."""


class Repeat(BaseModel):
    """One phase, once."""

    messages: int
    per_second: float
    """Answers, from the first to the last."""
    usage: Usage
    wal_bytes: int
    """Written by Postgres until the system was at rest again."""
    bins: list[int] = Field(default_factory=list)
    """Answers in each BIN_MS from the first answer on."""
    latency_ms: dict[int, int] = Field(default_factory=dict)
    """Whole milliseconds, rounded up -> how many orders took so long."""
    sent_late_ms: dict[int, int] = Field(default_factory=dict)
    """Whole milliseconds, rounded up -> how many orders left the generator so late."""


class Phase(BaseModel):
    """What was done, and each time it was."""

    name: str
    kind: Literal["drain", "commands", "rate"]
    rate: int | None = None
    """Orders a second that were to be placed."""
    repeats: list[Repeat] = Field(default_factory=list)


class Machine(BaseModel):
    """Where it ran."""

    cores: int
    processor: str
    memory_bytes: int
    system: str
    python: str
    postgres: str
    broker: str


class Limits(BaseModel):
    """The yardsticks, each time they were read."""

    pgbench_tps: list[float] = Field(min_length=1)
    loop_per_s: list[float] = Field(min_length=1)
    """Rounds in a second of processor time."""


class Noted(BaseModel):
    """What every run notes, whatever it measures and wherever."""

    format: Literal[1] = 1
    started_at: str
    took_s: float
    commit: str
    machine: Machine
    spans_bytes: int | None = None
    """Of spans that the services exported; None where they went elsewhere."""


class RunRecord(Noted):
    """What a run beside the yardsticks notes."""

    limits: Limits


class Record(RunRecord):
    """One run of the whole system."""

    plan: Plan
    phases: list[Phase]
    memory_bytes: dict[str, int]
    """Resident memory of each part when all was done; of Postgres with shared pages once."""

    def phase(self, name: str) -> Phase:
        """The phase of that name. Raises KeyError."""
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise KeyError(name)


def load(path: Path) -> Record:
    """The record in a file. Raises BenchError where it is none."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BenchError(f"{path} is too large to be the figures of a run")
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BenchError(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BenchError(
            f"{path} does not hold the figures of a run: {where}: {first['msg']}."
            " Name a JSON file that `make bench` wrote"
        ) from error


def save(record: Noted, path: Path) -> None:
    """Write it where others can load it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
