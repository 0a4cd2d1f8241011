"""A run or a comparison as one page that needs nothing but itself."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from bench.figures import figures, title_of
from bench.findings import findings
from bench.latencies import merged, quantile
from bench.plots import change_plot, cores_plot, cpu_plot, drain_plot, latency_plot
from bench.text import interval, limits_lines, number, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.compare import Comparison
    from bench.record import Record

MIB = 1024**2
SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)


def run_page(record: Record, comparison: Comparison | None = None, baseline: str = "") -> str:
    """The page of one run, with what changed since a baseline where one is given."""
    sections = [
        _section("In short", _list(findings(record))),
        _section("The figures", _figures(record)),
    ]
    if comparison is not None:
        sections.append(_section(f"Since {baseline}", _comparison(comparison)))
    sections += [
        _section("Latency", _latency(record)),
        _section(
            "Draining a backlog",
            _plot(drain_plot(record), "Orders that ended, a second, while the backlog lasted. Grey:"
                  " the transactions a second of pgbench, before and after."),
        ),
        _section(
            "Where the processors' time goes",
            _plot(cpu_plot(record), "Processor time of one order or command by part, each phase on"
                  " its own scale. At a low rate it is mostly what the parts use while they wait."
                  " The benchmark's own is left out.")
            + _plot(cores_plot(record), "Cores in use while each phase ran; the dashed line is all"
                    " of them. 'others' are programs that don't belong to the run, and work of the"
                    " kernel; 'stolen' went to other machines on the same host."),
        ),
        _section("Memory at the end", _memory(record)),
        _section("What was measured, and how", _how(record)),
    ]  # fmt: skip
    subtitle = (
        f"{record.started_at}, commit {record.commit}, {record.took_s:.0f} s;"
        f" {record.machine.cores} cores ({record.machine.processor}),"
        f" {record.machine.memory_bytes / 1024**3:.0f} GiB, {record.machine.system},"
        f" Python {record.machine.python}, PostgreSQL {record.machine.postgres},"
        f" Kafka {record.machine.broker}"
    )
    return _page("Order system: a benchmark", subtitle, sections)


def comparison_page(comparison: Comparison, before: str, after: str) -> str:
    """The page of two runs."""
    section = _section("After over before", _comparison(comparison))
    return _page("Order system: two benchmarks compared", f"{before} → {after}", [section])


def _page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    template = Template(files("bench").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title), subtitle=escape(subtitle), body="\n".join(sections)
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"


def _paragraphs(*texts: str) -> str:
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _plot(svg: str, caption: str) -> str:
    return (
        f'<figure role="img" aria-label="{escape(caption)}">{svg}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells of rows may hold markup; whoever makes them has escaped them."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{one}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


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
    return _table(head, rows) + _list(limits_lines(record))


def _latency(record: Record) -> str:
    rates = [phase for phase in record.phases if phase.kind == "rate"]
    if not rates:
        return _paragraphs("No rate was measured.")
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
    return _plot(
        latency_plot(record),
        "From the moment an order was to be placed to its outcome on the broker. Faint: each"
        " repeat. What the last percentiles say rests on few orders.",
    ) + _table([*head, "sent late, p99"], rows)


def _memory(record: Record) -> str:
    rows = [
        (escape(name), f"{held / MIB:,.0f} MiB")
        for name, held in sorted(record.memory_bytes.items())
    ]
    return _table(("", "resident"), rows) + _paragraphs(
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
    found = _table(head, rows) + _list(comparison.remarks)
    if comparison.changes:
        found += _plot(
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
    return _paragraphs(
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
