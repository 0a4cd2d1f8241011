"""A run or a comparison as one page that needs nothing but itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bench.figures import figures, title_of
from bench.findings import findings
from bench.latencies import merged, quantile
from bench.markup import bullets, circumstances, page, paragraphs, plot, section, table
from bench.plots import change_plot, cores_plot, cpu_plot, drain_plot, latency_plot
from bench.text import interval, limits_lines, number, ratio

if TYPE_CHECKING:
    from bench.compare import Comparison
    from bench.record import Record

MIB = 1024**2
SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)


def run_page(record: Record, comparison: Comparison | None = None, baseline: str = "") -> str:
    """The page of one run, with what changed since a baseline where one is given."""
    sections = [
        section("In short", bullets(findings(record))),
        section("The figures", _figures(record)),
    ]
    if comparison is not None:
        sections.append(section(f"Since {baseline}", _comparison(comparison)))
    sections += [
        section("Latency", _latency(record)),
        section(
            "Draining a backlog",
            plot(drain_plot(record), "Orders that ended, a second, while the backlog lasted. Grey:"
                  " the transactions a second of pgbench, before and after."),
        ),
        section(
            "Where the processors' time goes",
            plot(cpu_plot(record), "Processor time of one order or command by part, each phase on"
                  " its own scale. At a low rate it is mostly what the parts use while they wait."
                  " The benchmark's own is left out.")
            + plot(cores_plot(record), "Cores in use while each phase ran; the dashed line is all"
                    " of them. 'others' are programs that don't belong to the run, and work of the"
                    " kernel; 'stolen' went to other machines on the same host."),
        ),
        section("Memory at the end", _memory(record)),
        section("What was measured, and how", _how(record)),
    ]  # fmt: skip
    return page("Order system: a benchmark", circumstances(record), sections)


def comparison_page(comparison: Comparison, before: str, after: str) -> str:
    """The page of two runs."""
    changes = section("After over before", _comparison(comparison))
    return page("Order system: two benchmarks compared", f"{before} → {after}", [changes])


def _figures(record: Record) -> str:
    rows = [
        (
            escape(figure.title),
            escape(f"{number(figure.spread.median)} {figure.unit}"),
            escape(interval(figure.spread)),
            escape(ratio(figure)),
            escape(interval(figure.ratio) if figure.ratio else "-"),
            escape(", ".join(number(value) for value in figure.values)),
        )
        for figure in figures(record)
    ]
    head = ("", "median", "spread", "beside the machine", "spread", "each time")
    return table(head, rows) + bullets(limits_lines(record.limits))


def _latency(record: Record) -> str:
    rates = [phase for phase in record.phases if phase.kind == "rate"]
    if not rates:
        return paragraphs("No rate was measured.")
    rows = []
    for phase in rates:
        counts = merged(one.latency_ms for one in phase.repeats)
        late = merged(one.sent_late_ms for one in phase.repeats)
        rows.append(
            [
                escape(title_of(phase)),
                f"{sum(counts.values()):,}",
                *(f"{quantile(counts, share):,}" for share in SHARES),
                f"{quantile(late, 0.99):,}",
            ]
        )
    head = ["all repeats together, ms", "orders", "p50", "p90", "p99", "p99.9", "longest"]
    return plot(
        latency_plot(record),
        "From the moment an order was to be placed to its outcome on the broker. Faint: each"
        " repeat. What the last percentiles say rests on few orders.",
    ) + table([*head, "sent late, p99"], rows)


def _memory(record: Record) -> str:
    rows = [
        (escape(name), f"{held / MIB:,.0f} MiB")
        for name, held in sorted(record.memory_bytes.items())
    ]
    return table(("", "resident"), rows) + paragraphs(
        "Of Postgres all processes together, each shared page once."
    )


def _comparison(comparison: Comparison) -> str:
    rows = [
        (
            escape(change.after.title),
            number(change.before.spread.median),
            escape(f"{number(change.after.spread.median)} {change.after.unit}"),
            f"{change.measured.median:.2f}",
            f"{change.beside_machine.median:.2f}",
            escape(interval(change.beside_machine)),
            f'<span class="{escape(change.verdict.split(" ")[0])}">{escape(change.verdict)}</span>',
        )
        for change in comparison.changes
    ]
    head = ("", "before", "after", "as measured", "beside the machine", "spread", "")
    found = table(head, rows) + bullets(comparison.remarks)
    if comparison.changes:
        found += plot(
            change_plot(comparison.changes),
            "After over before: solid once the machine's own speed is taken out, dotted as"
            " measured. Grey: no difference seen, since one of them crosses 1.",
        )
    return found


def _how(record: Record) -> str:
    plan = record.plan
    rates = ", ".join(str(rate) for rate in plan.rates)
    tracing = (
        "Spans go to a collector of the environment's."
        if record.spans_bytes is None
        else f"Spans are exported, one order in a hundred as ever: {record.spans_bytes:,} bytes."
    )
    return paragraphs(
        "The whole system runs as processes on one machine: every service once, Postgres, Valkey,"
        " Kafka, and the benchmark, which publishes and reads. Orders have one line of one of 100"
        " products (uniform), no coupon, and are paid at once from one of 10,000 wallets."
        f" {tracing}",
        f"Each of the {plan.repeats} rounds: a backlog of {plan.orders:,} orders; orders that"
        f" arrive evenly at {rates} a second, {plan.seconds} s each; a backlog of"
        f" {plan.commands:,} ReserveStock. One backlog of {plan.warm_up_orders:,} orders before"
        " that counts nowhere. Every phase starts from a system at rest. Postgres makes no"
        " checkpoint meanwhile: its WAL is what orders need, without images of whole pages.",
        "A backlog is published while its reader is held; it counts from the first answer to the"
        " last. Arriving orders are published at their times, whether or not the system keeps up,"
        " and their latency counts from that time, not from when they could be sent. All answers"
        " have the broker's timestamps, whole milliseconds, read afterwards; latencies are rounded"
        " up.",
        "Processor time is read from /proc for each process, in a backlog from the first answer to"
        " the last. WAL is what Postgres wrote to its log until the system was at rest again.",
        "The yardsticks: pgbench -N with prepared statements, 16 clients and 2 threads at scale"
        f" {plan.pgbench_scale} for {plan.pgbench_s} s, before and after everything else; and a"
        " loop in Python (JSON and SHA-256), in rounds a second of processor time, before every"
        " round as well. Rates are divided by pgbench's; latencies are given in its transactions,"
        " processor times in rounds of the loop.",
        "Spreads are 95 % intervals (Student's, of the geometric mean of the repeats, which is why"
        " three repeats are wide and more are narrower); those of"
        " ratios are widened by all that the yardstick moved in the run.",
    )
