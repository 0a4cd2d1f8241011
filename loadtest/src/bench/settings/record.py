"""The raw figures of a run of the settings."""

from __future__ import annotations

from pydantic import BaseModel

from bench.record import Repeat, RunRecord
from bench.settings.plan import SettingsPlan  # noqa: TC001 - pydantic reads it


class PoolRepeat(BaseModel):
    """Transactions of `TASKS` who want a connection at once, through one pool."""

    connections: int
    per_second: float
    """Transactions."""
    cpu_ms: float
    """Processor time of this process and of Postgres, for one."""
    latency_ms: dict[int, int]
    """Whole milliseconds, rounded up, with the wait for a connection -> how many took so long."""
    memory_bytes: int
    """Of Postgres at the end, while the pool is open."""
    refused: int
    """Postgres had no connection left."""


class RedisRepeat(BaseModel):
    """Questions to a Redis that drops connections, and to one that is gone."""

    retries: int
    asked: int
    lost: int
    """That got no answer."""
    latency_ms: dict[int, int]
    gone_ms: list[float]
    """How long a question took to be given up, where nobody listens."""


class CallsRepeat(BaseModel):
    """A backlog of charges, before a gateway that takes `LATENCY_S` for each."""

    at_once: int
    done: Repeat


class PauseRepeat(BaseModel):
    """Charges that arrive evenly, before a gateway of which some requests fail or take long."""

    first_s: float
    done: Repeat
    requests: int
    """To the gateway, for all charges together: sent, or asked for by their keys."""


class SettingsRecord(RunRecord):
    """One run."""

    plan: SettingsPlan
    pools: list[PoolRepeat]
    redis: list[RedisRepeat]
    calls: list[CallsRepeat]
    pauses: list[PauseRepeat]
