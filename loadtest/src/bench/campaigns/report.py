"""What a run of the kinds of campaign looks like: tables in the terminal, and a page."""

from __future__ import annotations

from html import escape
from math import comb
from typing import TYPE_CHECKING, Final

from bench.campaigns.advice import FIRST, SHARE, sentences, spreading, spreading_sentence, standings
from bench.campaigns.crowd import RULE
from bench.campaigns.figures import PARTS, CellFigures, cell_figures
from bench.campaigns.plan import Keying, title
from bench.campaigns.plots import (
    cpu_plot,
    fairness_plot,
    issued_plot,
    latency_plot,
    verdicts_plot,
)
from bench.differences import NOT_LEFT_ALONE, RATIOS_SAID, by_chance, too_few
from bench.findings import disturbances, others_at_work
from bench.markup import bullets, circumstances, page, paragraphs, plot, section, table
from bench.tables import cpu_table, judged_table, latency_table, rates_table
from bench.text import count, interval, limits_lines, number, print_cases
from orderctl.terminal import cell as terminal_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from bench.campaigns.record import CouponRecord
    from bench.figures import Figure
    from bench.record import Repeat

SPEED: Final = {
    "": 13, "coupons/s": 9, "spread (95 %)": 16, "verdicts/s": 11, "spread": 17, "p50": 6, "p99": 6,
}  # fmt: skip
FAIRNESS: Final = {
    "": 13, "overtaken": 9, "spread (95 %)": 15, "inversions": 11, "early": 6,
    "coupon": 8, "postgres": 9, "valkey": 9,
}  # fmt: skip
"""Columns in the terminal, the same in the tables of both situations, of which the first has a
head."""


def print_campaigns(console: Console, record: CouponRecord) -> None:
    """The figures, what they stand beside, and the advice."""
    found = cell_figures(record)
    for widths, row in ((SPEED, _speed), (FAIRNESS, _fairness)):
        print_cases(
            console,
            widths,
            ((title(one), [row(each) for each in found if each.keying is one]) for one in Keying),
        )
        console.print()
    console.print(terminal_cell(_legend(record)))
    lines = limits_lines(record.limits) + others_at_work(record, _repeats(record))
    for line in [*lines, "", *advice(record)]:
        console.print(terminal_cell(line))


def advice(record: CouponRecord) -> list[str]:
    """What each kind is for, a sentence each, and how far to trust them."""
    if unknown := too_few(record.plan.repeats):
        return [unknown]
    found, spread = standings(record), spreading(record)
    seen = [one for standing in (*found, *spread) for one in standing.differences]
    doubts = [by_chance(len(seen))] if any(one.judged for one in seen) else []
    if disturbances(record, _repeats(record)):
        doubts.append(NOT_LEFT_ALONE)
    return [*sentences(found), spreading_sentence(spread), *doubts]


def campaigns_page(record: CouponRecord) -> str:
    """The page of one run."""
    found = cell_figures(record)
    plan = record.plan
    sections = [
        section("In short", bullets([*advice(record), *disturbances(record, _repeats(record))])),
        section("Coupons", plot(
            issued_plot(found), f"Coupons a second, {plan.coupons:,} of each campaign: from the"
            f" first of {plan.users:,} requests to the last CouponIssued; of a lottery from"
            " DrawLottery on. Lines: 95 % intervals, cut off at the edge.",
        ) + _rates(found, lambda one: one.issued, "coupons/s")
          + bullets(limits_lines(record.limits))),
        section("Verdicts", plot(
            verdicts_plot(found), "Answers a second, from the first request to the last answer; of"
            " a lottery these are entries. Lines: 95 % intervals, cut off at the edge.",
        ) + _rates(found, lambda one: one.per_second, "verdicts/s")),
        section("Latency", plot(
            latency_plot(found), "From a request to its answer, both as the broker has stored"
            " them. Lines: 95 % intervals, cut off at the edge.",
        ) + latency_table(found)),
        section("Fairness", plot(
            fairness_plot(found), f"Users, of {plan.users:,}, who got nothing while somebody who"
            " came later got a coupon. Lines: 95 % intervals, cut off at the edge.",
        ) + _order(found, plan.coupons)),
        section("Processor time", plot(
            cpu_plot(found), f"Of one request, by part; coupon is all {plan.instances} instances"
            " together.",
        ) + cpu_table(found, "ms a request", PARTS)),
        section("Beside the first", _beside(record)),
        section("Over all partitions, beside one", _spread(record)),
        section("What was measured, and how", _how(record, found)),
    ]  # fmt: skip
    return page("Order system: the kinds of campaign", circumstances(record), sections)


def _speed(one: CellFigures) -> Sequence[str]:
    return (
        f"  {one.kind}",
        number(one.issued.spread.median),
        interval(one.issued.spread),
        number(one.per_second.spread.median),
        interval(one.per_second.spread),
        number(one.p50.spread.median),
        number(one.p99.spread.median),
    )


def _fairness(one: CellFigures) -> Sequence[str]:
    return (
        f"  {one.kind}",
        count(one.overtaken.spread.median),
        interval(one.overtaken.spread),
        count(one.inversions.spread.median),
        count(one.early.spread.median),
        *(number(one.cpu_parts[part]) for part in PARTS if part in FAIRNESS),
    )


def _legend(record: CouponRecord) -> str:
    plan = record.plan
    return (
        f"{plan.users:,} users ask for {plan.coupons:,} coupons at once. A lottery: coupons from"
        " its draw on; its verdicts are entries. p50 and p99: ms to the verdict. Overtaken: users"
        " who got nothing while somebody who came later got a coupon. Inversions: pairs of coupons"
        f" out of order, of {comb(plan.coupons, 2):,}. Early: coupons to the earlier half of the"
        " users. coupon, postgres, valkey: ms of processor time for one request."
    )


def _rates(found: Sequence[CellFigures], of: Callable[[CellFigures], Figure], unit: str) -> str:
    return rates_table([(one.title, of(one)) for one in found], unit)


def _order(found: Sequence[CellFigures], coupons: int) -> str:
    rows = [
        (
            escape(one.title),
            *(
                text
                for figure in (one.overtaken, one.inversions, one.early)
                for text in (count(figure.spread.median), interval(figure.spread))
            ),
            ", ".join(map(count, one.overtaken.values)),
        )
        for one in found
    ]
    head = (
        "", "overtaken", "spread", "inversions", "spread", "early", "spread",
        "overtaken each time",
    )  # fmt: skip
    return table(head, rows) + paragraphs(
        "Of two requests on one partition the lower offset came first; of two on different"
        " partitions the earlier of the broker's timestamps. Those of one millisecond on different"
        f" partitions came at once. Inversions: of all {comb(coupons, 2):,} pairs of coupons, those"
        " of which the lower sequence went to who came later. Early: coupons that went to the"
        " earlier half of the users. A lottery draws whoever entered, whenever that was."
    )


def _beside(record: CouponRecord) -> str:
    """Every comparison that the advice rests on."""
    rows = [
        (f"{title(standing.keying)}, {standing.kind}", one)
        for standing in standings(record)
        for one in standing.differences
    ]
    return judged_table(FIRST, rows, "found") + paragraphs(
        f"{RATIOS_SAID} Of users overtaken and of coupons out of order the gap is taken in each"
        f" round: it counts where its spread excludes 0 and it is {SHARE:.0%} or more of all users"
        " or pairs. An equal chance is told where the spread of the coupons to the earlier half"
        " holds half of them, within a quarter and three quarters, and not what is beside it."
        " Coupons a second of a lottery count from its draw, so they stand beside no other kind's."
    )


def _spread(record: CouponRecord) -> str:
    rows = [(str(one.kind), each) for one in spreading(record) for each in one.differences]
    return judged_table(title(Keying.CAMPAIGN), rows, "found")


def _how(record: CouponRecord, found: Sequence[CellFigures]) -> str:
    plan = record.plan
    asked_in_ms = [one.asked_in_ms for one in found]
    return paragraphs(
        f"{plan.instances} instances of coupon as processes on one machine, with Postgres, Valkey,"
        f" Kafka and the benchmark; no other service. {plan.users:,} users ask a campaign for one"
        f" of {plan.coupons:,} coupons, each once, all at once: requests are published as fast as"
        " the benchmark can, while the instances are at work. The broker stored them within"
        f" {count(min(asked_in_ms))} to {count(max(asked_in_ms))} ms, in"
        f" {count(min(one.moments for one in found))} or more different milliseconds (medians of"
        " the cells); no verdicts come faster than their requests. Either all are keyed by"
        " campaign, as the contract says, and lie on one partition, or they have no key, and lie on"
        " all partitions, so that the instances contend for the campaign."
        f" The rule of conditional campaigns is {RULE}, and all users are.",
        f"In each of the {plan.repeats} rounds every kind in both situations, those of a situation"
        " right after each other, in an order of the round's own, each with a campaign of its own."
        f" A round of {plan.warm_up_users:,} users each before that counts nowhere. Every rush"
        " starts from a system at rest, with the gates of all campaigns written. A lottery is"
        " drawn once all entries are answered and the system rests; its draw is compared with the"
        " one that follows from the published seed.",
        "Every time is the broker's: when it stored the request and when it stored the answer, in"
        " whole milliseconds, rounded up. Every request has one answer, the coupons are numbered"
        " without a gap, and all others are refused because all are gone, or the run fails."
        " Processor time is read from /proc for each process, from the first request to the last"
        " answer, and the draw of a lottery is added to it.",
        "Spreads and yardsticks are those of `make bench`: pgbench -N at scale"
        f" {plan.pgbench_scale} for {plan.pgbench_s} s before and after, and a loop in Python."
        " Spreads of counts, which may be 0, are of their mean.",
    )


def _repeats(record: CouponRecord) -> list[Repeat]:
    return [one.done for cell in record.cells for one in cell.rushes]
