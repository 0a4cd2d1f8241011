"""Records of runs that nobody ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from bench.plan import Plan
from bench.record import Limits, Machine, Phase, Record, Repeat, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence


class MakeRecord(Protocol):
    """The fixture `make_record`."""

    def __call__(
        self,
        *,
        drained: Sequence[float] = ...,
        latency_ms: Sequence[int] = ...,
        pgbench: Sequence[float] = ...,
        **fields: Any,
    ) -> Record:
        """A run that drained so many orders a second and had one latency in each repeat."""
        ...


@pytest.fixture
def make_record() -> MakeRecord:
    """A record of one drain, one rate and one backlog of stock, each three times unless told."""

    def make(
        *,
        drained: Sequence[float] = (1000.0, 1010.0, 990.0),
        latency_ms: Sequence[int] = (20, 21, 19),
        pgbench: Sequence[float] = (5000.0, 5000.0),
        **fields: Any,
    ) -> Record:
        values: dict[str, Any] = {
            "started_at": "2024-05-01T10:00:00+00:00",
            "took_s": 300.0,
            "commit": "abc123",
            "plan": Plan(rates=(200,)),
            "machine": Machine(
                cores=2, processor="some", memory_bytes=8 * 1024**3, system="Linux",
                python="3.11.7", postgres="18.1", broker="started here",
            ),
            "limits": Limits(pgbench_tps=list(pgbench), loop_per_s=[100_000.0, 101_000.0]),
            "phases": [
                Phase(name="drain", kind="drain", repeats=[repeat(rate) for rate in drained]),
                Phase(
                    name="rate-200", kind="rate", rate=200,
                    repeats=[repeat(200.0, {one: 100}) for one in latency_ms],
                ),
                Phase(
                    name="commands", kind="commands",
                    repeats=[repeat(rate * 4) for rate in drained],
                ),
            ],
            "memory_bytes": {"stock-0": 90 * 1024**2, "postgres": 200 * 1024**2},
            "spans_bytes": 1_000,
        }  # fmt: skip
        return Record(**values | fields)

    return make


def repeat(per_second: float, latency_ms: dict[int, int] | None = None) -> Repeat:
    """One phase, once: 2 of 2 cores in use for a second."""
    cpu_s = {"order-orchestrator-0": 0.9, "postgres": 0.6, "bench": 0.3}
    return Repeat(
        messages=1_000,
        per_second=per_second,
        usage=Usage(window_s=1.0, cpu_s=cpu_s, others_s=0.2, stolen_s=0.0),
        wal_bytes=6_000_000,
        bins=[500, 500, 100],
        latency_ms=latency_ms or {},
        sent_late_ms=(latency_ms and {1: 100}) or {},
    )
