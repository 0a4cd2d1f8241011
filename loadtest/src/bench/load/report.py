"""What a load test looks like in the terminal, and as a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.load.plan import Scenario
from bench.load.plots import (
    cores_plot,
    errors_plot,
    lag_plot,
    latency_plot,
    rate_plot,
    routes_plot,
)
from bench.markup import bullets, circumstances, page, paragraphs, plot, section, table
from bench.text import limits_lines, number
from orderctl.terminal import cell

if TYPE_CHECKING:
    from rich.console import Console

    from bench.load.record import Loaded, LoadRecord

MIB: Final = 1024**2
WHAT: Final = {
    Scenario.JOURNEY: "the workshop's journey, up to 1,000 users",
    Scenario.SHORT: "the workshop's journey in a sixth of its time, up to 1,000 users",
    Scenario.ARRIVALS: "customers who arrive at fixed rates",
    Scenario.FLASH_SALE: "a flash sale of one hot product",
    Scenario.COUPON_RUSH: "a rush for the coupons of one campaign",
}
COUNTED: Final = ("http_reqs", "iterations", "orders_confirmed", "granted", "refused",
                  "dropped_iterations")  # fmt: skip


def print_load(console: Console, record: LoadRecord) -> None:
    """Latencies, totals and verdicts."""
    shown = Table(title=_title(record), title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("ms")
    for name in ("p50", "p95", "p99", "longest"):
        shown.add_column(name, justify="right")
    for one in record.loaded.latencies:
        values = (one.p50_ms, one.p95_ms, one.p99_ms, one.longest_ms)
        shown.add_row(cell(one.name), *map(number, values))
    console.print(shown)
    for line in (*_totals(record.loaded), *_verdicts(record)):
        console.print(cell(line))


def load_page(record: LoadRecord) -> str:
    """The page of a load test."""
    loaded = record.loaded
    sections = [
        section("What came of it", bullets(_verdicts(record)) + _thresholds(loaded)),
        section(
            "Rate and users",
            plot(rate_plot(loaded), "Requests and journeys that ended, a second, and the users who"
                 " made them.")
            + bullets(_totals(loaded)),
        ),
        section(
            "Latency",
            plot(latency_plot(record), "Of all requests, in each period of k6. Dashed: the limit of"
                 " the p95 over the whole run, where it has one.")
            + plot(routes_plot(loaded), "The p95 of each route.")
            + _latencies(loaded),
        ),
        section(
            "Errors",
            plot(errors_plot(loaded), "Steps with another answer than they may have, as a share of"
                 " all in the period.")
            + bullets(f"{times:,} times {what}" for what, times in loaded.complaints.items()),
        ),
        section(
            "Messages that wait",
            plot(lag_plot(loaded), "By consumer group: the ends of its topics less what it has"
                 " committed."),
        ),
        section(
            "Where the processors' time goes",
            plot(cores_plot(record), "Cores in use; the dashed line is all of them."
                 " k6 and the benchmark run on the same machine as the system. 'others' are other"
                 " programs, and work of the kernel; 'stolen' went to other machines on the host.")
            + _processors(loaded),
        ),
        section("Invariants", _checked(loaded)),
        section("What was measured, and how", _how(record)),
    ]  # fmt: skip
    return page(f"Order system: {_title(record)}", circumstances(record), sections)


def _title(record: LoadRecord) -> str:
    if record.plan.stages and record.plan.scenario in (Scenario.JOURNEY, Scenario.SHORT):
        return f"the workshop's journey, in stages of its own: {record.plan.stages}"
    return WHAT[record.plan.scenario]


def _verdicts(record: LoadRecord) -> list[str]:
    loaded, failures = record.loaded, record.failures
    checks, limits = len(loaded.checked), len(loaded.thresholds)
    if failures:
        told = [f"{times:,} times {what}" for what, times in loaded.complaints.items()]
        return [*(f"FAILED: {one}" for one in failures), *told]
    return [f"all {limits} thresholds passed, and all {checks} checks of the system hold"]


def _totals(loaded: Loaded) -> list[str]:
    lines = [f"{name}: {loaded.totals[name]:,.0f}" for name in COUNTED if name in loaded.totals]
    busiest = max(loaded.moments, key=lambda one: one.requests / one.took_s)
    rate, users = busiest.requests / busiest.took_s, busiest.users
    lines.append(
        f"at most {rate:,.0f} requests a second, with {users:,.0f} users; k6 ran"
        f" {loaded.took_s:.0f} s, and {loaded.rest_s:.1f} s later the system was at rest"
    )
    return lines


def _thresholds(loaded: Loaded) -> str:
    rows = [
        (
            escape(one.metric),
            escape(one.limit),
            f"{one.found:,.4g}",
            '<span class="better">passed</span>'
            if one.passed
            else '<span class="worse">failed</span>',
        )
        for one in loaded.thresholds
    ]
    return table(("threshold", "limit", "found", ""), rows)


def _latencies(loaded: Loaded) -> str:
    rows = [
        (
            escape(one.name),
            *map(number, (one.p50_ms, one.p95_ms, one.p99_ms, one.longest_ms)),
        )
        for one in loaded.latencies
    ]
    return table(("whole run, ms", "p50", "p95", "p99", "longest"), rows)


def _processors(loaded: Loaded) -> str:
    """Each part's mean and most, and the most memory that it held."""
    names = sorted({name for one in loaded.samples for name in one.cores})
    rows = []
    for name in names:
        used = [one.cores.get(name, 0.0) for one in loaded.samples]
        held = loaded.memory_bytes.get(name)
        rows.append(
            (
                escape(name),
                f"{sum(used) / len(used):.2f}",
                f"{max(used):.2f}",
                f"{held / MIB:,.0f} MiB" if held is not None else "-",
            )
        )
    return table(("", "cores, mean", "most", "memory, most"), rows)


def _checked(loaded: Loaded) -> str:
    rows = [
        (
            escape(one.text),
            '<span class="better">holds</span>'
            if one.holds
            else f'<span class="worse">does not hold</span> {escape(one.detail)}',
        )
        for one in loaded.checked
    ]
    return table(("once the system was at rest", ""), rows)


def _how(record: LoadRecord) -> str:
    plan, limits = record.plan, record.limits
    texts = (
        (
            f"k6 {record.loaded.k6_version} runs loadtest/k6/{plan.scenario.script} against the"
            f" storefront, and counts each {plan.period_s:g} s by itself; processes and lag are"
            f" looked at each {plan.watch_s:g} s. {_sizes(record)}"
        ),
        (
            "All of it runs on one machine: the system, k6, and what samples them. What k6 uses of"
            " the processors is not there for the system."
        ),
        (
            "Afterwards nothing is asked until the system is at rest. Then the invariants of all"
            " services, topics and counters are looked at, as `orderctl audit` does."
        ),
    )
    if limits is None:
        return paragraphs(*texts, "The stack ran before: no yardstick was read beside it.")
    return paragraphs(
        *texts,
        "Postgres makes no checkpoint meanwhile. The machine's own limits, before and after:",
    ) + bullets(limits_lines(limits))


def _sizes(record: LoadRecord) -> str:
    plan = record.plan
    match plan.scenario:
        case Scenario.JOURNEY | Scenario.SHORT:
            return (
                "A user lists products, puts P001 into the cart, orders it, pays, and pauses for a"
                " second; a step waits for the one before."
            )
        case Scenario.ARRIVALS:
            rates = ", ".join(map(str, plan.rates))
            return (
                f"Customers arrive at {rates} a second, {plan.seconds} s each, whether or not the"
                " shop keeps up; each makes the journey once."
            )
        case Scenario.FLASH_SALE:
            return (
                f"{plan.users:,} users, {plan.at_once:,} at once, order one of {plan.supply:,}"
                " units, and pay."
            )
        case Scenario.COUPON_RUSH:
            return (
                f"{plan.users:,} users, {plan.at_once:,} at once, ask for one of"
                f" {plan.supply:,} coupons."
            )
