"""What a run of the bottlenecks asks for and says, from figures that nobody measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.__main__ import main
from bench.bottlenecks.figures import (
    PAY,
    PLACE,
    STEADY,
    cpu_ms,
    figures,
    steady_cores,
    steady_rates,
)
from bench.bottlenecks.pairs import NAMES, PAIRS
from bench.bottlenecks.plan import BottlenecksPlan
from bench.bottlenecks.record import BottlenecksRecord, PairTurns, Turn
from bench.bottlenecks.report import markdown, verdict
from bench.errors import BenchError
from bench.load.record import Held, Latency, Moment, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.bottlenecks.record import SideName
    from bench.record import Record


def turn(side: SideName, rate: float, p50_ms: float = 10.0, **fields: Any) -> Turn:
    latencies = [
        Latency(name=name, p50_ms=p50_ms, p95_ms=50, p99_ms=60, longest_ms=70)
        for name in (STEADY, PLACE, PAY)
    ]
    values: dict[str, Any] = {
        "side": side, "journeys_per_s": rate, "errors": 0.0, "latencies": latencies,
        "cores": {"stock-0": rate / 1000, "stock-1": rate / 1000, "k6": 1.0, "others": 0.1},
        "complaints": {}, "rest_s": 1.0,
    }  # fmt: skip
    return Turn(**values | fields)


def pair(before: Sequence[Turn], now: Sequence[Turn]) -> PairTurns:
    return PairTurns(name="x", shows="Why.", before="A=0", now="A=1", turns=[*before, *now])


def moment(at_s: float, journeys: float, errors: float = 0.0, took_s: float = 1.0) -> Moment:
    return Moment(
        at_s=at_s, took_s=took_s, requests=journeys * 4, journeys=journeys, users=1, errors=errors,
        p50_ms=1, p95_ms=1, p99_ms=1,
    )  # fmt: skip


def test_the_ramp_and_the_end_do_not_count() -> None:
    moments = [moment(1, 100, 1.0), moment(2.1, 40, took_s=0.9), moment(3.1, 20, 0.5),
               moment(4.1, 500, 1.0)]  # fmt: skip
    rate, errors = steady_rates(moments, 1.2, 4.0)
    assert rate == pytest.approx(60 / 1.9)
    assert errors == pytest.approx(0.5 * 20 / 60)
    with pytest.raises(BenchError, match="nothing after the ramp"):
        steady_rates(moments, 4.5, 9.0)


def test_processors_are_weighed_by_how_long_each_sample_took() -> None:
    samples = [
        Sample(at_s=at_s, cores={"stock-0": cores}, lag={})
        for at_s, cores in ((0.0, 9.0), (1.0, 8.0), (2.0, 1.0), (5.0, 0.2), (6.0, 7.0))
    ]
    assert steady_cores(samples, 1.0, 5.5) == {"stock-0": pytest.approx((1.0 + 3 * 0.2) / 4)}
    with pytest.raises(BenchError, match="nobody looked"):
        steady_cores(samples, 5.5, 9.0)


def test_instances_count_together_and_what_is_beside_the_system_does_not() -> None:
    assert cpu_ms(turn("now", 50.0)) == {"stock": pytest.approx(2.0)}
    assert cpu_ms(turn("now", 0.0)) == {}


def test_sides_that_lie_apart_are_told_with_their_ratio() -> None:
    found = pair(
        [turn("before", 40.0), turn("before", 50.0)], [turn("now", 80.0), turn("now", 100.0)]
    )
    journeys = figures(found)[0]
    assert journeys.ratio is not None
    assert (journeys.ratio.median, journeys.ratio.low, journeys.ratio.high) == (2.0, 1.6, 2.5)
    assert verdict(found) == "now better in journeys (2 times)"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ((40.0, 81.0), (80.0, 100.0)),
        ((100.0, 101.0), (105.0, 106.0)),
    ],
    ids=["spreads overlap", "less than a tenth"],
)
def test_anything_else_is_no_difference_seen(before: Sequence[float], now: Sequence[float]) -> None:
    found = pair([turn("before", one) for one in before], [turn("now", one) for one in now])
    assert verdict(found) == "no difference seen between the two"


def test_one_turn_of_each_side_tells_nothing() -> None:
    found = pair([turn("before", 40.0)], [turn("now", 80.0)])
    assert {one.judged for one in figures(found)} == {0}
    assert verdict(found).startswith("one turn of each side has no spread")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((0.2, 0.3), (0.0, 0.0), "now better in errors (25.0 % before, 0 now)"),
        ((0.0, 0.0), (0.2, 0.3), "now worse in errors (0 % before, 25.0 now)"),
        ((0.002, 0.003), (0.0, 0.0), "no difference seen between the two"),
        ((0.0, 0.3), (0.0, 0.0), "no difference seen between the two"),
    ],
    ids=["fewer", "more", "less than one in a hundred", "spreads touch"],
)
def test_errors_are_told_by_how_far_they_lie_apart(
    before: Sequence[float], now: Sequence[float], said: str
) -> None:
    found = pair(
        [turn("before", 40.0, errors=one) for one in before],
        [turn("now", 40.0, errors=one) for one in now],
    )
    assert verdict(found) == said


def test_a_side_on_which_no_journey_ended_has_no_ratio() -> None:
    found = figures(pair([turn("before", 0.0)] * 2, [turn("now", 80.0)] * 2))
    assert [one.ratio for one in found if one.title in ("journeys", "CPU in all")] == [None] * 2


def test_a_slower_now_is_worse() -> None:
    found = pair([turn("before", 40.0)] * 2, [turn("now", 40.0, p50_ms=20.0)] * 2)
    assert verdict(found) == (
        "now worse in all requests, p50 (2 times); worse in placing, p50 (2 times);"
        " worse in paying, p50 (2 times)"
    )


def test_each_pair_has_a_table(make_record: Callable[..., Record]) -> None:
    told = make_record().model_dump(exclude={"plan", "phases", "memory_bytes"})
    shown = pair(
        [turn("before", 40.0, errors=0.25, complaints={"it: 202": 3})] * 2, [turn("now", 80.0)] * 2
    )
    record = BottlenecksRecord(
        **told, plan=BottlenecksPlan(), k6_version="v1", pairs=[shown],
        checked=[Held(text="stock: sums", holds=False, detail="P001")],
    )  # fmt: skip
    text = markdown(record)
    assert "**x**: `A=0`, now `A=1`. Why." in text
    assert (
        "| journeys, 1/s | 40.0 | 40.0 to 40.0 | 80.0 | 80.0 to 80.0 | 2 | 2 to 2 | better |"
        in text
    )
    assert "| errors, % | 25.0 | 25.0 to 25.0 | 0 | 0 to 0 | - | - | better |" in text
    assert "| CPU of stock, ms a journey | 2 | 2 to 2 | 2 | 2 to 2 | 1 | 1 to 1 |" in text
    assert "Answered instead, before: 6 times it: 202." in text
    assert "instead, now" not in text
    assert record.failures == ["stock: sums: P001"]
    assert BottlenecksRecord.model_validate_json(record.model_dump_json()) == record


def test_both_sides_of_a_pair_set_the_same_and_differ() -> None:
    assert len(set(NAMES)) == len(PAIRS) == 6
    for one in PAIRS:
        assert one.before.settings.keys() == one.now.settings.keys()
        assert one.before != one.now
        assert bool(one.services) == bool(one.now.settings)
    now = {name: value for one in PAIRS for name, value in one.now.settings.items()}
    assert now["GATEWAY_CALLS_AT_ONCE"] == "128"


def test_the_journey_is_told_the_ramp_and_what_its_side_wants() -> None:
    plan = BottlenecksPlan(only=("gateway",), users=7, seconds=4, ramp_s=2)
    (one,) = plan.pairs
    assert plan.script(one.now, plan.load(plan.seconds)) == {
        "THRESHOLDS": "ours", "STAGES": "2s:7,4s:7", "RAMP_S": "2", "METHOD": "gateway",
    }  # fmt: skip
    assert not plan.doubled
    assert BottlenecksPlan().doubled


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "pool,pols"), "--only: Value error, there is no pols; there are pool, "),
        (("--users", "0"), "--users: Input should be greater than or equal to 1"),
    ],
)
def test_what_can_not_be_measured_is_refused(
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "bottlenecks", *arguments])
    assert main() == 1
    assert said in capsys.readouterr().err
