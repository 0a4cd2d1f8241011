"""A load test is asked for rightly, told as it was, and has k6 or says what to install."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from bench.__main__ import main
from bench.errors import BenchError
from bench.load.judging import of_report
from bench.load.k6 import find_k6, find_or_build, version_of
from bench.load.plan import LoadPlan, Scenario
from bench.load.record import Held, Latency, Loaded, LoadRecord, Moment, Sample, Threshold
from bench.load.report import load_page, print_load
from bench.load.scarce import judged_coupons, judged_units
from shared.audit import Check, Report
from shared.audit import Moment as When

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.record import Record

    MakeRecord = Callable[..., Record]

EVIL = "<script>alert(1)</script>$\\bad{$"


def moment(at_s: float, **fields: Any) -> Moment:
    values: dict[str, Any] = {
        "at_s": at_s, "took_s": 1.0, "requests": 400, "journeys": 100, "users": 90, "errors": 0.0,
        "p50_ms": 2.0, "p95_ms": 50.0, "p99_ms": 90.0,
        "routes_p95_ms": {"POST /api/orders": 60.0},
    }  # fmt: skip
    return Moment(**values | fields)


def loaded(**fields: Any) -> Loaded:
    values: dict[str, Any] = {
        "k6_version": "v1.8.1",
        "totals": {"http_reqs": 800, "orders_confirmed": 200},
        "latencies": [
            Latency(name="all requests", p50_ms=2, p95_ms=51.5, p99_ms=90, longest_ms=120)
        ],
        "thresholds": [
            Threshold(metric="http_req_duration", limit="p(95)<250", found=51.5, passed=True)
        ],
        "complaints": {},
        "moments": [moment(1), moment(2, p50_ms=None, p95_ms=None, p99_ms=None, requests=0)],
        "samples": [
            Sample(at_s=1, cores={"k6": 0.5, "stock-0": 0.3, "others": 0.1}, lag={"stock": 12}),
            Sample(at_s=2, cores={"k6": 0.5, "stock-0": 0.4, "others": 0.1}, lag={}),
        ],
        "memory_bytes": {"stock-0": 90 * 1024**2},
        "rest_s": 0.5,
        "checked": [Held(text="stock: nothing is oversold", holds=True)],
    }
    return Loaded(**values | fields)


@pytest.fixture
def make_load(make_record: MakeRecord) -> Callable[..., LoadRecord]:
    noted = make_record().model_dump(include={"started_at", "took_s", "commit", "machine"})

    def make(scenario: Scenario = Scenario.SHORT, **fields: Any) -> LoadRecord:
        found = LoadRecord(
            **noted, plan=LoadPlan(scenario=scenario), limits=None, loaded=loaded(**fields)
        )
        return LoadRecord.model_validate_json(found.model_dump_json())

    return make


def test_a_page_needs_nothing_but_itself(make_load: Callable[..., LoadRecord]) -> None:
    page = load_page(make_load())
    assert "all 1 thresholds passed, and all 1 checks of the system hold" in page
    for shown in ("51.5", "p(95)&lt;250", "stock: nothing is oversold", "90 MiB", "k6 v1.8.1"):
        assert shown in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(plots) == 6
    for plot in plots:
        ET.fromstring(plot)
    assert "stock-0" in "".join(plots)


def test_what_a_run_was_told_steers_no_page(make_load: Callable[..., LoadRecord]) -> None:
    record = make_load(
        complaints={EVIL: 1},
        moments=[moment(1, routes_p95_ms={EVIL: 1.0})],
        samples=[Sample(at_s=1, cores={EVIL: 1.0}, lag={EVIL: 1})],
        checked=[Held(text=EVIL, holds=False, detail=EVIL)],
        thresholds=[Threshold(metric=EVIL, limit=EVIL, found=1, passed=False)],
    )
    assert "<script>" not in load_page(record)


@pytest.mark.parametrize("scenario", Scenario)
def test_what_failed_is_said_first(
    scenario: Scenario, make_load: Callable[..., LoadRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_load(
        scenario,
        thresholds=[Threshold(metric="granted", limit="count==100", found=101, passed=False)],
        checked=[Held(text="stock: nothing is oversold", holds=False, detail="P001 -1")],
        complaints={"the order is placed: 503 overload": 1_234},
    )
    print_load(Console(width=200), record)
    for told in (capsys.readouterr().out, load_page(record)):
        assert "FAILED: threshold: granted count==100, found 101" in told
        assert "1,234 times the order is placed: 503 overload" in told
        assert "FAILED: stock: nothing is oversold: P001 -1" in told
    assert len(record.failures) == 2


def test_what_a_crowd_took_is_judged_to_the_unit() -> None:
    assert judged_units(100, (100, 0)).holds
    for found in ((101, 0), (99, 0), (99, 1), None):
        assert not judged_units(100, found).holds
    assert judged_coupons(10, (10, 10, 10)).holds
    for coupons in ((10, 11, 11), (11, 10, 10), (10, 10, 11), (9, 9, 9), None):
        assert not judged_coupons(10, coupons).holds


def test_an_invariant_that_was_not_looked_at_does_not_hold() -> None:
    check = Check("lag", "topics", 9, When.AT_REST, "lag is 0")
    report = Report((check, check.unchecked("no broker")))
    assert [one.holds for one in of_report(report)] == [True, False]


def test_a_script_is_told_what_the_plan_says() -> None:
    sale = LoadPlan(scenario=Scenario.FLASH_SALE, users=50, at_once=5, supply=7)
    assert sale.settings("load-1") == {
        "THRESHOLDS": "ours", "PRODUCT": "load-1", "UNITS": "7", "USERS": "50", "AT_ONCE": "5",
    }  # fmt: skip
    assert LoadPlan(scenario=Scenario.SHORT).settings("")["STAGES"] == "short"
    assert LoadPlan(stages="5s:10").settings("")["STAGES"] == "5s:10"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stages", "5:10"), "stages: String should match"),
        (("arrivals", "--rates", "0"), "rates"),
        (("flash-sale", "--users", 10_001, "--at-once", 1), "users: Input should be less than"),
        (
            ("flash-sale", "--users", 100, "--at-once", 9),
            "supply: Value error, there must",
        ),
        (("coupon-rush", "--users", 200, "--at-once", 200), "at_once: Value error, there must"),
        (("short", "--url", "http://127.0.0.1:1"), "KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL,"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_starts(
    arguments: tuple[object, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    state = tmp_path / "state"
    monkeypatch.setattr(sys, "argv", ["bench", "load", *map(str, arguments), "--state", str(state)])
    assert main() == 1
    assert said in capsys.readouterr().err
    assert not state.exists()


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, with nothing in it but a shell's own tools."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for tool in ("cp", "chmod"):
        (folder / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_k6_is_found_on_the_path_before_ours(programs: Path, tmp_path: Path) -> None:
    own = tmp_path / "bin"
    assert find_k6(own) is None
    program(own / "k6", "echo 'k6 v1.8.1 (go)'")
    assert find_or_build(print, own) == own / "k6"
    program(programs / "k6", "echo 'k6 v1.9.0 (go)'")
    assert find_k6(own) == programs / "k6"
    assert version_of(programs / "k6") == "v1.9.0"


def test_k6_is_built_once_where_there_is_none(programs: Path, tmp_path: Path) -> None:
    program(tmp_path / "built", "echo 'k6 v1.8.1 (go)'")
    program(
        programs / "go",
        f'[ "$*" = "install go.k6.io/k6@v1.8.1" ] && cp {tmp_path / "built"} "$GOBIN/k6"',
    )
    told: list[str] = []
    k6 = find_or_build(told.append, tmp_path / "bin")
    assert (k6, version_of(k6)) == (tmp_path / "bin" / "k6", "v1.8.1")
    (programs / "go").unlink()
    assert find_or_build(told.append, tmp_path / "bin") == k6
    assert len(told) == 1


def test_what_to_install_is_said_where_k6_can_not_be_built(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"install Go .*, or put k6 v1\.8\.1 onto the PATH"):
        find_or_build(print, tmp_path / "bin")
    program(programs / "go", "echo 'no such module' >&2; exit 1")
    with pytest.raises(BenchError, match="k6 can't be built: no such module"):
        find_or_build(print, tmp_path / "bin")
