"""Load on the real storefront, by the real k6. No time is asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.load.k6 import find_k6
from bench.load.plan import LoadPlan, Scenario
from bench.load.report import load_page
from bench.load.run import run
from local_stack import Stack
from local_stack.seed import seed_once
from shared.contracts.topics import GROUPS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.load.record import LoadRecord

pytestmark = pytest.mark.skipif(
    find_k6() is None, reason="k6 is neither on the PATH nor built: `make load` builds it"
)
WITHIN_S = 600
"""A whole stack starts, on a machine that may be busy."""
PARTS = {"k6", "bench", "storefront-0", "stock-0", "order-orchestrator-0", "postgres", "others"}
TIMES = {"http_req_duration", "dropped_iterations"}
"""Thresholds that a busy machine crosses."""


def expect_well(record: LoadRecord) -> None:
    """But for what a busy machine is too slow for."""
    loaded = record.loaded
    assert {one.metric for one in loaded.thresholds if not one.passed} <= TIMES, loaded.complaints
    assert [one for one in loaded.checked if not one.holds] == []
    assert len(loaded.checked) > 60
    assert loaded.complaints == {}
    assert sum(one.requests for one in loaded.moments) == loaded.totals["http_reqs"]


@pytest.mark.timeout(WITHIN_S)
def test_ten_seconds_of_the_journey_on_a_stack_of_its_own(tmp_path: Path) -> None:
    told: list[str] = []
    plan = LoadPlan(stages="3s:4,5s:4,2s:1", pgbench_s=1, pgbench_scale=1, loop_s=0.05)
    record = run(plan, tmp_path / "state", None, told.append)
    expect_well(record)
    loaded = record.loaded
    assert loaded.totals["orders_confirmed"] == loaded.totals["iterations"] > 0
    assert record.limits is not None
    assert len(record.limits.pgbench_tps) == 2
    assert {name for one in loaded.samples for name in one.cores} >= PARTS
    assert any(one.lag.keys() == GROUPS.keys() for one in loaded.samples)
    assert loaded.memory_bytes.keys() >= {"k6", "storefront-0", "postgres"}
    assert all(-1 <= one.at_s <= loaded.took_s + 5 for one in loaded.samples), "of one clock"
    assert load_page(record).count("<svg") == 6
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
def test_every_other_scenario_on_a_stack_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack.whole(tmp_path / "state")
    try:
        environment = stack.up()
        seed_once(environment, tmp_path / "seeded")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for scenario in (Scenario.FLASH_SALE, Scenario.COUPON_RUSH, Scenario.ARRIVALS):
            plan = LoadPlan(
                scenario=scenario, users=200, at_once=20, supply=30, rates=(3, 5), seconds=4
            )
            record = run(plan, tmp_path / "unused", environment["STOREFRONT_URL"], print)
            expect_well(record)
            assert record.limits is None
            if scenario.crowd:
                assert record.loaded.totals["granted"] == 30
                assert record.loaded.checked[-1].text.startswith("exactly 30")
            assert {name for one in record.loaded.samples for name in one.cores} >= PARTS
        assert stack.running(), "it is left as it was"
        assert not (tmp_path / "unused").exists()
    finally:
        stack.wipe()
