"""What a run of the settings says, from figures that nobody measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.__main__ import main
from bench.record import Limits, Repeat, Usage
from bench.settings.plan import SettingsPlan
from bench.settings.record import (
    CallsRepeat,
    PauseRepeat,
    PoolRepeat,
    RedisRepeat,
    SettingsRecord,
)
from bench.settings.report import markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.record import Record


def done(per_second: float, cpu_s: float, latency_ms: dict[int, int]) -> Repeat:
    return Repeat(
        messages=100,
        per_second=per_second,
        usage=Usage(window_s=1, cpu_s={"payment-0": cpu_s, "bench": 9}, others_s=0, stolen_s=0),
        wal_bytes=1,
        latency_ms=latency_ms,
    )


def pool(per_second: float, latency_ms: dict[int, int], refused: int) -> PoolRepeat:
    return PoolRepeat(
        connections=8, per_second=per_second, cpu_ms=0.5, latency_ms=latency_ms,
        memory_bytes=100 * 1024**2, refused=refused,
    )  # fmt: skip


@pytest.fixture
def record(make_record: Callable[..., Record]) -> SettingsRecord:
    told: dict[str, Any] = make_record().model_dump(exclude={"plan", "phases", "memory_bytes"})
    told["limits"] = Limits(pgbench_tps=[4_000.0], loop_per_s=[100.0])
    return SettingsRecord(
        **told,
        plan=SettingsPlan(pools=(8,), retries=(3,), calls=(128,), pauses_s=(0.5,)),
        pools=[pool(1_000.0, {10: 98, 20: 1}, 1), pool(3_000.0, {10: 100}, 0)],
        redis=[
            RedisRepeat(retries=3, asked=100, lost=5, latency_ms={1: 99, 9: 1}, gone_ms=[140.0])
        ],
        calls=[CallsRepeat(at_once=128, done=done(640.0, 0.2, {}))],
        pauses=[PauseRepeat(first_s=0.5, done=done(60.0, 0.1, {5: 90, 700: 10}), requests=130)],
    )


def test_each_setting_has_a_table_of_medians_and_of_all_latencies(record: SettingsRecord) -> None:
    rows = [line for line in markdown(record).splitlines() if not line.startswith(("| `", "| -"))]
    assert [row for row in rows if row] == [
        "| 8 | 2,000 | 0.5 | 0.5 | 10 | 10 | 0.5% | 100 |",
        "| 3 | 5.0% | 1 | 1 | 140 |",
        "| 128 | 640 | 2 | 5 |",
        "| 0.5 | 5 | 5 | 700 | 1.3 |",
    ]


def test_sizes_that_can_not_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "settings", "--charges", "5"])
    assert main() == 1
    assert "--charges: Input should be greater than or equal to 20" in capsys.readouterr().err
