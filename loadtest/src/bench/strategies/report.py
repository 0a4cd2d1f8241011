"""What a run of the strategies looks like: a table in the terminal, and a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from bench.differences import RATIOS_SAID
from bench.findings import disturbances, others_at_work
from bench.markup import bullets, circumstances, page, paragraphs, plot, section, table
from bench.strategies.advice import choices, differences, sentence
from bench.strategies.figures import PARTS, CellFigures, cell_figures
from bench.strategies.plan import CASES, STRATEGIES, Contention
from bench.strategies.plots import cpu_plot, latency_plot, throughput_plot
from bench.tables import cpu_table, judged_table, latency_table, rates_table
from bench.text import interval, limits_lines, number, print_cases
from orderctl.terminal import cell as terminal_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bench.differences import Judged
    from bench.record import Repeat
    from bench.strategies.record import StockRecord

WIDTHS: Final = {
    "": 13,
    "verdicts/s": 10,
    "spread (95 %)": 17,
    "p50": 6,
    "p99": 6,
    "CPU": 6,
    "conflicts": 10,
    "locks": 7,
    "away": 5,
}
"""Columns in the terminal, the same in the tables of all cases, of which the first has a head."""


def print_strategies(console: Console, record: StockRecord) -> None:
    """The figures, what they stand beside, and the advice."""
    plan = record.plan
    found = cell_figures(record)
    print_cases(
        console,
        WIDTHS,
        ((plan.title(case), [_row(one) for one in found if one.case == case]) for case in CASES),
    )
    console.print(
        terminal_cell(
            f"From a backlog of {plan.commands:,}, but for p50 and p99 (ms), which are at"
            f" {plan.rate} a second. CPU: ms a verdict, whole stack. Conflicts: of 100 chunks."
            " Locks: ms that a chunk waits. Away: turned away by the counter, of 100 orders."
        )
    )
    lines = limits_lines(record.limits) + others_at_work(record, _repeats(record))
    for line in [*lines, "", advice(record)]:
        console.print(terminal_cell(line))


def advice(record: StockRecord) -> str:
    """The sentence that tells an operator what to choose when."""
    disturbed = bool(disturbances(record, _repeats(record)))
    return sentence(choices(record), record.plan, disturbed=disturbed)


def strategies_page(record: StockRecord) -> str:
    """The page of one run."""
    found = cell_figures(record)
    plan = record.plan
    sections = [
        section(
            "In short", bullets([advice(record), *disturbances(record, _repeats(record))])
        ),
        section("Throughput", plot(
            throughput_plot(found, plan), f"Verdicts a second from a backlog of {plan.commands:,}"
            f" ReserveStock before {plan.instances} instances. Lines: 95 % intervals, cut off at"
            " the edge.",
        ) + rates_table([(one.title, one.per_second) for one in found], "verdicts/s")
        + bullets(limits_lines(record.limits))),
        section("Latency", plot(
            latency_plot(found, plan), "From the moment a ReserveStock was to be published to its"
            " verdict on the broker. Lines: 95 % intervals, cut off at the edge.",
        ) + latency_table(found)),
        section("Processor time", plot(
            cpu_plot(found), f"Of one verdict, by part; stock is all {plan.instances}"
            " instances together.",
        ) + cpu_table(found, "ms a verdict", PARTS)),
        section("Conflicts, locks and counters", _contention(found)),
        section("Beside the simplest", _beside(record)),
        section("What was measured, and how", _how(record)),
    ]  # fmt: skip
    return page("Order system: stock's strategies", circumstances(record), sections)


def _row(one: CellFigures) -> Sequence[str]:
    return (
        f"  {one.strategy}",
        number(one.per_second.spread.median),
        interval(one.per_second.spread),
        number(one.p50.spread.median),
        number(one.p99.spread.median),
        number(one.cpu.spread.median),
        number(one.conflicts * 100),
        number(one.lock_ms),
        number(one.turned_away * 100),
    )


def _contention(found: Sequence[CellFigures]) -> str:
    rows = [
        (
            escape(one.title),
            number(one.conflicts * 100),
            number(one.conflicts_at_rate * 100),
            number(one.lock_ms),
            number(one.lock_ms_at_rate),
            number(one.turned_away * 100),
        )
        for one in found
    ]
    head = (
        "", "conflicts, of 100 chunks", "at the rate", "locks, ms a chunk", "at the rate",
        "turned away by the counter, of 100 orders",
    )  # fmt: skip
    return table(head, rows) + paragraphs(
        "A conflict is a chunk that was folded again, since a product had changed meanwhile"
        " (stock_conflicts_total). Locks: from asking for the locks of its products to having them"
        " (stock_lock_seconds), over all chunks, those without locks included."
    )


def _beside(record: StockRecord) -> str:
    """Every comparison that the advice rests on."""
    rows: list[tuple[str, Judged]] = []
    for case in CASES:
        simplest = record.cell(case, STRATEGIES[0])
        for strategy in STRATEGIES[1:]:
            title = f"{record.plan.title(case)}, {strategy}"
            seen = differences(record.cell(case, strategy), simplest)
            rows += [(title, one) for one in seen]
    return judged_table(STRATEGIES[0], rows, "ratio") + paragraphs(RATIOS_SAID)


def _how(record: StockRecord) -> str:
    plan = record.plan
    return paragraphs(
        f"{plan.instances} instances of stock as processes on one machine, with Postgres, Valkey,"
        " Kafka and the benchmark; no other service. Every ReserveStock wants one unit of one"
        f" product: of 1, of {plan.products} by Zipf (exponent {plan.zipf_exponent:g}, so that the"
        f" most wanted gets {_share_of_first(record):.0%} of the orders), or of {plan.products}"
        " alike. There are units enough, or a crowd: one unit for"
        f" {plan.orders_per_unit} orders, over the products as they are wanted. Every verdict is"
        " counted, and a run with another number of reservations than units fails.",
        f"In each of the {plan.repeats} rounds every cell, the strategies of a case right after"
        " each other, in an order of the round's own:"
        f" {plan.arrivals} orders that arrive evenly at {plan.rate} a second, and a backlog of"
        f" {plan.commands:,}, published while the instances stand still. In a round all strategies"
        " get the same orders. Products and instances are warm before anything counts; every"
        " phase starts at rest.",
        "A backlog counts from the moment when the instances go on to the last verdict; latency"
        " from the moment when an order was to be published to the broker's timestamp of the"
        " verdict. Spreads and yardsticks are those of `make bench`: pgbench -N at scale"
        f" {plan.pgbench_scale} for {plan.pgbench_s} s before and after, and a loop in Python.",
    )


def _share_of_first(record: StockRecord) -> float:
    weights = record.plan.weights(Contention.ZIPF)
    return weights[0] / sum(weights)


def _repeats(record: StockRecord) -> list[Repeat]:
    return [one.done for cell in record.cells for one in (*cell.arrived, *cell.drained)]
