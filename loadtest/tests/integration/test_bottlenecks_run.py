"""Sides of a pair in turns, on the real stack by the real k6. No time is asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.bottlenecks.figures import ROUTES, cpu_ms
from bench.bottlenecks.plan import BottlenecksPlan
from bench.bottlenecks.report import markdown
from bench.bottlenecks.run import run
from bench.load.k6 import find_k6

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    find_k6() is None, reason="k6 is neither on the PATH nor built: `make load` builds it"
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_side_is_as_its_pair_says(tmp_path: Path) -> None:
    told: list[str] = []
    plan = BottlenecksPlan(
        only=("gateway", "workers"), users=5, seconds=3, ramp_s=1, repeats=1, pgbench_s=1,
        pgbench_scale=1, loop_s=0.05,
    )  # fmt: skip
    record = run(plan, tmp_path / "state", told.append)
    assert record.failures == []
    assert len(record.checked) > 60
    assert [one.name for one in record.pairs] == ["gateway", "workers"]
    for pair in record.pairs:
        assert [turn.side for turn in pair.turns] == ["before", "now"]
        for turn in pair.turns:
            assert {one.name for one in turn.latencies} == ROUTES.keys()
            assert turn.journeys_per_s > 0
            assert turn.complaints == {}
            assert cpu_ms(turn).keys() >= {"stock", "order-orchestrator", "postgres", "kafka"}
    gateway, workers = record.pairs
    at_gateway, elsewhere = ([cpu_ms(turn)["gateway"] for turn in one.turns]
                             for one in (gateway, workers))  # fmt: skip
    assert min(at_gateway) > max(elsewhere), "its orders are paid there"
    assert ["stock-1" in turn.cores for turn in workers.turns] == [True, False]
    assert "**workers**" in markdown(record)
    assert not (tmp_path / "state").exists()
