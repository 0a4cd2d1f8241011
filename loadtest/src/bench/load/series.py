"""What k6 writes of a run, read: its record over time and its summary at the end. Pure.

The record is what k6 keeps for its web dashboard: a JSON object a line. `metric` names metrics as
they turn up, `snapshot` has for each known metric, in the order of their names, the aggregates of
one period, and `param` tells which aggregates these are. Of the last period, which was not over
when the run was, it has no `snapshot`, only what is new in `cumulative`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from bench.errors import BenchError
from bench.load.record import Latency, Moment, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Mapping[str, float]

DURATION: Final = "http_req_duration"
ROUTE: Final = "name"
"""The tag that holds a route."""
COMPLAINT: Final = "not so: "
"""What a script's words about a wrong answer begin with."""
COMPLAINTS_KEPT: Final = 20
ALWAYS: Final = "max>=0"
"""A threshold that is there to have a part of a metric summed up: it says nothing."""


def read_moments(lines: Iterable[str]) -> tuple[float, list[Moment]]:
    """When the run began, seconds since the epoch, and what k6 counted in each period.

    Raises BenchError where the record is none.
    """
    start_ms, moments = 0.0, list[Moment]()
    whole: Moment | None = None
    kinds: dict[str, str] = {}
    aggregates: dict[str, list[str]] = {}
    try:
        for line in lines:
            event = json.loads(line)
            data = event["data"]
            match event["event"]:
                case "param":
                    aggregates = data["aggregates"]
                case "metric":
                    kinds |= {name: metric["type"] for name, metric in data.items()}
                case "start":
                    start_ms = data[0][0]
                case "snapshot" | "cumulative" as kind:
                    rows = {
                        name: dict(zip(aggregates[kinds[name]], values, strict=True))
                        for name, values in zip(sorted(kinds), data, strict=True)
                        if values
                    }
                    if kind == "cumulative":
                        whole = _moment(rows, start_ms, None)
                    else:
                        moments.append(_moment(rows, start_ms, moments[-1] if moments else None))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BenchError(f"k6's record of the run can't be read: {error!r}") from error
    if whole is None:
        raise BenchError("k6 recorded nothing of the run")
    return start_ms / 1000, _completed(whole, moments)


def _completed(whole: Moment, moments: Sequence[Moment]) -> list[Moment]:
    """With the last period: what the whole run has beyond all others. Only counts can be told of
    it, unless it is the whole run; one that is hardly begun is counted to the one before."""
    if not moments:
        return [whole]
    *others, last = moments
    requests = whole.requests - sum(one.requests for one in moments)
    if requests <= 0:
        return list(moments)
    # Each request is one step, so that shares can be turned into counts.
    errors = whole.requests * whole.errors - sum(one.requests * one.errors for one in moments)
    counts = {
        "at_s": whole.at_s,
        "took_s": whole.at_s - last.at_s,
        "requests": requests,
        "journeys": whole.journeys - sum(one.journeys for one in moments),
        "users": whole.users,
        "errors": min(max(errors / requests, 0.0), 1.0),
    }
    if counts["took_s"] >= last.took_s / 2:
        return [*moments, Moment(**counts, p50_ms=None, p95_ms=None, p99_ms=None)]
    together = last.requests + requests
    failed = last.requests * last.errors + requests * counts["errors"]
    added = {
        "took_s": last.took_s + counts["took_s"],
        "requests": together,
        "journeys": last.journeys + counts["journeys"],
        "errors": failed / together,
    }
    return [*others, last.model_copy(update={**counts, **added})]


def _moment(rows: Mapping[str, Row], start_ms: float, before: Moment | None) -> Moment:
    nothing: Row = {}
    before_s, users = (before.at_s, before.users) if before else (0.0, 0.0)
    at_s = (rows["time"]["value"] - start_ms) / 1000
    duration = rows.get(DURATION, nothing)
    return Moment(
        at_s=at_s,
        took_s=at_s - before_s,
        requests=rows.get("http_reqs", nothing).get("count", 0.0),
        journeys=rows.get("iterations", nothing).get("count", 0.0),
        users=rows.get("vus", nothing).get("value", users),  # k6 tells it once a second
        errors=rows.get("errors", nothing).get("rate", 0.0),
        p50_ms=duration.get("med"),
        p95_ms=duration.get("p(95)"),
        p99_ms=duration.get("p(99)"),
        routes_p95_ms={
            label: row["p(95)"]
            for name, row in rows.items()
            if (label := part_of(name, ROUTE)) is not None
        },
    )


def part_of(name: str, tag: str) -> str | None:
    """The value of `tag` in the name of a part of the durations, as in
    `http_req_duration{name:POST /api/orders}`; None where it is of another kind."""
    start = f"{DURATION}{{{tag}:"
    return name[len(start) : -1] if name.startswith(start) and name.endswith("}") else None


def read_summary(
    summary: Mapping[str, Any],
) -> tuple[dict[str, float], list[Latency], list[Threshold]]:
    """Totals of all counters, latencies by part, and the thresholds of k6's exported summary.

    Raises BenchError where it is none.
    """
    try:
        metrics: Mapping[str, Mapping[str, Any]] = summary["metrics"]
        totals = {name: one["count"] for name, one in metrics.items() if "count" in one}
        latencies = [
            Latency(
                name=label,
                p50_ms=one["med"],
                p95_ms=one["p(95)"],
                p99_ms=one["p(99)"],
                longest_ms=one["max"],
            )
            for name, one in sorted(metrics.items())
            if (label := _label(name)) is not None and one["max"] > 0
        ]
        thresholds = [
            # In this form of the summary `true` says that a threshold was crossed.
            Threshold(metric=name, limit=limit, found=_found(one, limit), passed=not crossed)
            for name, one in sorted(metrics.items())
            for limit, crossed in one.get("thresholds", {}).items()
            if limit != ALWAYS
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BenchError(f"k6's summary of the run can't be read: {error!r}") from error
    return totals, latencies, thresholds


def read_complaints(log: Iterable[str]) -> dict[str, int]:
    """What the scripts said of answers that were none, each with how often, the most frequent
    first; `log` are k6's own lines, as JSON."""
    found: Counter[str] = Counter()
    for line in log:
        try:
            entry = json.loads(line)
            message = str(entry["msg"]) if entry["source"] == "console" else ""
        except (KeyError, TypeError, ValueError):
            continue  # k6's own: of a request that failed the script speaks as well
        if message.startswith(COMPLAINT):
            # Of a connection that broke the port is told, a different one each time.
            found[re.sub(r":\d{4,5}\b", "", message.removeprefix(COMPLAINT))] += 1
    return dict(found.most_common(COMPLAINTS_KEPT))


def _label(name: str) -> str | None:
    if name == DURATION:
        return "all requests"
    return part_of(name, ROUTE) or part_of(name, "scenario") or part_of(name, "part")


def _found(metric: Mapping[str, Any], limit: str) -> float:
    """What the limit is on: `p(95)` of `p(95)<250`, the value of a `rate`."""
    aggregate = limit.partition("<")[0].partition("=")[0].partition(">")[0].strip()
    return float(metric.get("value" if aggregate == "rate" else aggregate, 0.0))
