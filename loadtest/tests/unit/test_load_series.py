"""What k6 writes of a run, read as it writes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bench.errors import BenchError
from bench.load.series import read_complaints, read_moments, read_summary
from bench.load.watch import cores_between
from bench.usage import OTHERS, STOLEN, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

START_MS = 1_000_000_000_000
AGGREGATES = {
    "counter": ["count", "rate"],
    "gauge": ["value"],
    "rate": ["rate"],
    "trend": ["avg", "max", "med", "min", "p(90)", "p(95)", "p(99)"],
}


def lines(*events: tuple[str, Any]) -> Iterable[str]:
    head = [
        ("param", {"aggregates": AGGREGATES}),
        ("metric", {"time": {"type": "gauge"}}),
        ("start", [[START_MS]]),
    ]
    return [json.dumps({"event": name, "data": data}) for name, data in (*head, *events)]


REQUESTS = {
    "http_reqs": {"type": "counter"},
    "http_req_duration": {"type": "trend"},
    "http_req_duration{name:POST /api/orders}": {"type": "trend"},
}


def test_each_period_has_what_its_metrics_say() -> None:
    began, moments = read_moments(
        lines(
            ("metric", REQUESTS),
            ("cumulative", [[3] * 7, [3] * 7, [20, 20], [START_MS + 1_000]]),
            (
                "snapshot",
                [[3, 9, 2, 1, 7, 8, 8.5], [0, 0, 0, 0, 0, 6, 0], [20, 20], [START_MS + 1_000]],
            ),
            # known from here on: rows are in the order of all names
            ("metric", {"errors": {"type": "rate"}, "vus": {"type": "gauge"}}),
            ("cumulative", [[0.15], [1] * 7, [1] * 7, [50, 15], [START_MS + 3_000], [7]]),
            ("snapshot", [[0.25], [1] * 7, [], [30, 15], [START_MS + 3_000], [7]]),
            ("cumulative", [[0.15], [1] * 7, [1] * 7, [50, 15], [START_MS + 3_500], [7]]),
            ("snapshot", [[], [], [], [], [START_MS + 3_500], []]),
            # the last period has no snapshot: 10 requests, of which 2 of 10 steps failed
            ("cumulative", [[9.5 / 60], [1] * 7, [1] * 7, [60, 15], [START_MS + 4_400], [2]]),
        )
    )
    assert began == START_MS / 1000
    first, second, idle, last = moments
    assert (first.at_s, first.took_s, first.requests) == (1.0, 1.0, 20)
    assert (first.p50_ms, first.p95_ms, first.p99_ms) == (2, 8, 8.5)
    assert first.routes_p95_ms == {"POST /api/orders": 6}
    assert (first.errors, first.users) == (0, 0)
    assert (second.at_s, second.took_s, second.requests) == (3.0, 2.0, 30)
    assert (second.errors, second.users, second.routes_p95_ms) == (0.25, 7, {})
    assert (last.at_s, last.requests, last.users, last.p95_ms) == (4.4, 10, 2, None)
    assert (idle.requests, idle.users) == (0, 7), "k6 told no users"
    assert (last.took_s, last.errors) == (pytest.approx(0.9), pytest.approx(0.2))


def test_a_last_period_that_has_hardly_begun_is_counted_to_the_one_before() -> None:
    """Its rate would be of a few requests in a moment."""
    trend = [3, 9, 2, 1, 7, 8, 8.5]
    _, moments = read_moments(
        lines(
            ("metric", REQUESTS | {"errors": {"type": "rate"}}),
            ("snapshot", [[0.5], trend, [], [20, 20], [START_MS + 1_000]]),
            ("cumulative", [[0.4], trend, [], [25, 20], [START_MS + 1_002]]),
        )
    )
    (only,) = moments
    assert (only.at_s, only.took_s, only.requests, only.p95_ms) == (1.002, 1.002, 25, 8)
    assert only.errors == pytest.approx(0.4)


def test_a_run_within_one_period_is_that_period() -> None:
    _, moments = read_moments(
        lines(
            ("metric", REQUESTS),
            ("cumulative", [[3, 9, 2, 1, 7, 8, 8.5], [], [20, 20], [START_MS + 400]]),
        )
    )
    (only,) = moments
    assert (only.took_s, only.requests, only.p95_ms) == (0.4, 20, 8)


@pytest.mark.parametrize(
    "record",
    [
        [],
        ["{"],
        lines(("snapshot", [[START_MS], [1]])),  # more rows than there are metrics
        lines(("metric", {"x": {"type": "nothing"}}), ("snapshot", [[START_MS], [1]])),
    ],
)
def test_a_record_that_is_none_is_told(record: list[str]) -> None:
    with pytest.raises(BenchError, match=r"can't be read|recorded nothing"):
        read_moments(record)


def trend(p95: float, **thresholds: bool) -> dict[str, Any]:
    found = {"avg": 1, "min": 0, "med": 2, "max": 99, "p(90)": 3, "p(95)": p95, "p(99)": 98}
    return {**found, "thresholds": thresholds}


def test_a_summary_tells_totals_latencies_and_thresholds() -> None:
    # In this form of the summary `true` says that a threshold was crossed.
    totals, latencies, thresholds = read_summary(
        {
            "metrics": {
                "http_req_duration": trend(260.5, **{"p(95)<250": True}),
                "http_req_duration{name:POST /api/cart}": trend(5, **{"max>=0": False}),
                "http_req_duration{scenario:rate_50}": trend(6, **{"max>=0": False}),
                "http_req_duration{expected_response:true}": trend(7),
                "http_req_blocked": trend(1),
                "errors": {"value": 0.0, "passes": 0, "thresholds": {"rate<0.001": False}},
                "granted": {"count": 9, "rate": 1.5, "thresholds": {"count==10": True}},
                "dropped_iterations": {"thresholds": {"count==0": False}},
            }
        }
    )
    assert totals == {"granted": 9}
    assert {one.name: one.p95_ms for one in latencies} == {
        "all requests": 260.5, "POST /api/cart": 5, "rate_50": 6,
    }  # fmt: skip
    assert {(one.metric, one.limit): (one.found, one.passed) for one in thresholds} == {
        ("http_req_duration", "p(95)<250"): (260.5, False),
        ("errors", "rate<0.001"): (0.0, True),
        ("granted", "count==10"): (9, False),
        ("dropped_iterations", "count==0"): (0.0, True),
    }


@pytest.mark.parametrize(
    "summary", [{}, {"metrics": []}, {"metrics": {"http_req_duration": {"max": 1}}}]
)
def test_a_summary_that_is_none_is_told(summary: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="summary of the run can't be read"):
        read_summary(summary)


def test_what_scripts_complain_of_is_counted() -> None:
    def line(text: str, source: str = "console") -> str:
        return json.dumps({"level": "warning", "msg": text, "source": source})

    found = read_complaints(
        [
            line("not so: the order is placed: 503 overload"),
            line("not so: the order is paid: read: 127.0.0.1:41234->127.0.0.1:3000: reset"),
            line("not so: the order is paid: read: 127.0.0.1:41236->127.0.0.1:3000: reset"),
            line("something else"),
            json.dumps({"level": "warning", "msg": "Request Failed"}),
            "no JSON", "[]",
        ]
    )  # fmt: skip
    assert list(found.items()) == [
        ("the order is paid: read: 127.0.0.1->127.0.0.1: reset", 2),
        ("the order is placed: 503 overload", 1),
    ]


def test_cores_are_what_was_used_in_the_time_between() -> None:
    before = Reading(10.0, {"k6": 1.0, OTHERS: 5.0, STOLEN: 1.0})
    now = Reading(12.0, {"k6": 2.0, "stock-0": 0.5, OTHERS: 4.9, STOLEN: 1.5})
    assert cores_between(before, now) == {
        "k6": 0.5, "stock-0": 0.25, "others": 0.0, "stolen": 0.25,
    }  # fmt: skip
