"""A tiny run on a stack of its own, and one that is broken off. No time is asserted."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.campaigns.plan import KINDS, CouponPlan, Keying
from bench.campaigns.report import campaigns_page
from bench.campaigns.run import run as run_campaigns
from bench.errors import BenchError
from bench.figures import figures
from bench.machine import DATABASE, loop, pgbench
from bench.page import run_page
from bench.plan import Plan
from bench.run import run
from bench.settings.plan import SettingsPlan
from bench.settings.report import markdown
from bench.settings.run import run as run_settings
from bench.strategies.plan import CASES, STRATEGIES, StockPlan, Supply
from bench.strategies.report import strategies_page
from bench.strategies.run import run as run_strategies
from local_stack.processes import find_left_over
from shared.contracts.coupon import CampaignKind
from shared.contracts.stock import StockStrategy
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from local_stack import Environment, Stack

ROOT = Path(__file__).parents[3]
TINY = Plan(
    orders=60, commands=80, rates=(40,), seconds=1, repeats=1,
    pgbench_s=1, pgbench_scale=1, loop_s=0.05,
)  # fmt: skip
WITHIN_S = 600
"""A whole stack starts, on a machine that may be busy."""
PARTS = {"postgres", "valkey", "order-orchestrator-0", "stock-0", "payment-0", "coupon-0"}


@pytest.mark.timeout(WITHIN_S)
def test_a_run_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    record = run(TINY, tmp_path / "state", told.append)
    assert [phase.name for phase in record.phases] == ["drain", "rate-40", "commands"]
    drain, rate, commands = (phase.repeats[0] for phase in record.phases)
    assert sum(drain.bins) == drain.messages == 60
    assert sum(rate.latency_ms.values()) == sum(rate.sent_late_ms.values()) == 40
    assert sum(commands.bins) == 80
    assert all(one.wal_bytes > 0 and one.per_second > 0 for one in (drain, rate, commands))
    assert rate.usage.cpu_s.keys() >= PARTS
    assert rate.usage.cpu_s["order-orchestrator-0"] > 0
    assert record.memory_bytes.keys() >= PARTS
    assert len(record.limits.pgbench_tps) == 2
    assert len(record.limits.loop_per_s) == 3
    assert all(figure.spread.low is None for figure in figures(record)), "once is no spread"
    assert "orders drained" in run_page(record)
    assert "round 1 of 1" in "\n".join(told)
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
def test_a_run_of_the_strategies_measures_every_cell_and_leaves_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    plan = StockPlan(
        commands=60, rate=200, arrivals=40, repeats=1, instances=2, products=5,
        pgbench_s=1, pgbench_scale=1, loop_s=0.05,
    )  # fmt: skip
    record = run_strategies(plan, tmp_path / "state", told.append)
    assert len(record.cells) == len(CASES) * len(STRATEGIES)
    for cell in record.cells:
        (drained,), (arrived,) = cell.drained, cell.arrived
        share = 1 if cell.supply is Supply.ENOUGH else plan.orders_per_unit
        assert (drained.reserved, arrived.reserved) == (60 // share, 40 // share)
        assert sum(drained.done.bins) == 60
        assert sum(arrived.done.latency_ms.values()) == 40
        parts = drained.done.usage.cpu_s.keys() - {"kafka"}  # which may be another's
        assert parts == {"postgres", "valkey", "stock-0", "stock-1", "bench", "supervisor"}
        assert drained.tally.chunks > 0
        turned_away = cell.strategy is StockStrategy.REDIS and cell.supply is Supply.CROWD
        assert (drained.tally.turned_away > 0) == turned_away
        locks_first = cell.strategy is not StockStrategy.OPTIMISTIC
        assert not (locks_first and drained.tally.conflicts)
    assert "Nothing can be advised" in strategies_page(record), "once is no spread"
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
def test_a_run_of_the_kinds_measures_every_cell_and_leaves_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    plan = CouponPlan(
        users=60, coupons=7, repeats=1, instances=2, pgbench_s=1, pgbench_scale=1, loop_s=0.05
    )
    record = run_campaigns(plan, tmp_path / "state", told.append)
    assert len(record.cells) == len(KINDS) * len(Keying)
    for cell in record.cells:
        (rush,) = cell.rushes
        assert (rush.issued, rush.done.messages) == (7, 60)
        assert sum(rush.done.latency_ms.values()) == sum(rush.done.bins) == 60
        assert 0 <= rush.overtaken <= 53
        assert 0 <= rush.inversions <= 21
        parts = rush.done.usage.cpu_s.keys() - {"kafka"}  # which may be another's
        assert parts == {"postgres", "valkey", "coupon-0", "coupon-1", "bench", "supervisor"}
    queued = record.cell(CampaignKind.QUEUED, Keying.CAMPAIGN).rushes[0]
    assert (queued.overtaken, queued.inversions) == (0, 0), "on one partition"
    assert "Nothing can be advised" in campaigns_page(record), "once is no spread"
    assert "round 1 of 1: lottery over all partitions" in "\n".join(told)
    assert not (tmp_path / "state").exists()


@pytest.mark.timeout(WITHIN_S)
async def test_a_run_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "bench", "run", "--state", str(state),
                "--out", str(tmp_path / "out.json"),
            ],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        # Then comes pgbench: a process of its own, which has to go, too.
        await eventually(
            lambda: "seeded" in log.read_text(), within_s=WITHIN_S / 2, describe="it is seeded"
        )
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, WITHIN_S / 4) == 130, log.read_text()
    finally:
        process.kill()
    assert not state.exists()
    assert find_left_over(state) == []
    assert not (tmp_path / "out.json").exists()
    assert "Traceback" not in log.read_text()


def test_a_folder_in_use_is_left_alone(infrastructure: Stack, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="take another folder with --state"):
        run(TINY, infrastructure.folder.path, lambda _: None)
    assert infrastructure.running()


async def test_the_yardsticks_read_something_and_tidy_up(environment: Environment) -> None:
    import asyncpg

    url = environment.admin_database_url
    assert await pgbench(url, scale=1, seconds=1) > 0
    assert loop(0.01) > 0
    connection = await asyncpg.connect(url)
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
    finally:
        await connection.close()
    assert known is None


async def test_pgbench_says_why_it_fails(environment: Environment) -> None:
    with pytest.raises(BenchError, match=r"pgbench exited with 1: .*(scale|range)"):
        await pgbench(environment.admin_database_url, scale=0, seconds=1)


@pytest.mark.timeout(WITHIN_S)
def test_a_run_of_the_settings_measures_every_value(tmp_path: Path) -> None:
    plan = SettingsPlan(
        pools=(4, 8), retries=(3,), calls=(10,), pauses_s=(0.1,), transactions=200, questions=20,
        charges=40, repeats=1, pgbench_s=3, pgbench_scale=1, loop_s=0.05,
    )  # fmt: skip
    record = run_settings(plan, tmp_path / "state", lambda _: None)
    assert [one.connections for one in record.pools] == [4, 8]
    assert all(sum(one.latency_ms.values()) == 200 and one.cpu_ms > 0 for one in record.pools)
    (redis,), (calls,), (pause,) = record.redis, record.calls, record.pauses
    assert redis.asked == 20
    assert redis.gone_ms, "nobody listened, and it was given up"
    assert calls.done.messages == 40
    assert pause.requests >= pause.done.messages == 20
    assert markdown(record).count("\n\n") == 3
