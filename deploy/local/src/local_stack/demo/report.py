"""What the demo prints."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from local_stack.demo.expectations import Expectations, differences, kind_of
from local_stack.demo.results import Results
from shared.audit import INVARIANTS, Report


def judge(results: Results, expectations: Expectations) -> dict[str, list[str]]:
    """Kind -> what is other than expected; a kind that nothing is expected of is left out."""
    found = {}
    for name, kind in expectations.kinds.items():
        problems = differences(results.outcomes_of(name), kind.outcomes)
        problems += differences(results.refusals.get(name, Counter()), kind.refusals)
        problems += [
            f"{order_id} has two outcomes"
            for order_id in sorted(results.contradictory)
            if kind_of(order_id) == name
        ]
        found[name] = problems
    return found


def judge_dead_letters(results: Results, expectations: Expectations) -> dict[str, list[str]]:
    """Reason -> what is other than expected of its dead letters."""
    counts: Counter[str] = Counter()
    for (_, reason), count in results.dead_letters.items():
        counts[reason] += count
    wanted = expectations.dead_letters
    return {
        reason: differences({reason: counts[reason]}, {reason: wanted.get(reason, 0)})
        for reason in sorted(counts.keys() | wanted.keys())
    }


def judge_without_order(results: Results, expectations: Expectations) -> list[str]:
    """What is other than expected of the messages that belong to no order."""
    return differences(results.without_order, expectations.without_order)


def verdict(problems: Sequence[str]) -> str:
    """Whether all is as expected, and what is not."""
    return "[bold red]NO[/] " + "; ".join(problems) if problems else "yes"


def kinds_table(
    results: Results, expectations: Expectations, judgements: Mapping[str, Sequence[str]]
) -> Table:
    """Kind of order -> how many -> outcomes -> as expected."""
    table = Table(title="What became of the orders", title_justify="left")
    table.add_column("kind")
    table.add_column("what it is", style="dim", max_width=46)
    table.add_column("orders", justify="right")
    table.add_column("outcomes, and commands that were refused")
    table.add_column("as expected")
    present = {kind_of(order_id) for order_id in results.placed_ms}
    for name in [*expectations.kinds, *sorted(present - expectations.kinds.keys())]:
        kind, problems = expectations.kinds.get(name), judgements.get(name)
        refused = results.refusals.get(name, Counter())
        outcomes = [f"{count:>4} {text}" for text, count in results.outcomes_of(name).most_common()]
        outcomes += [f"{count:>4} refused: {text}" for text, count in refused.most_common()]
        table.add_row(
            name,
            kind.what if kind else "",
            str(len(results.orders_of(name))),
            "\n".join(outcomes),
            verdict(problems) if problems is not None else "-",
        )
    if results.without_order or expectations.without_order:
        found = results.without_order
        table.add_row(
            "(no order)",
            f"{found.total()} messages without an order id to answer to",
            "",
            "\n".join(f"{count:>4} dead letter: {why}" for why, count in found.most_common()),
            verdict(judge_without_order(results, expectations)),
        )
    return table


def timings_table(results: Results, expectations: Expectations) -> Table:
    """Orders a second, and how long one takes."""
    table = Table(title="Time from PlaceOrder to outcome, on the broker", title_justify="left")
    for column in ("orders", "number", "a second", "p50", "p99"):
        table.add_column(column, justify="left" if column == "orders" else "right")
    groups: dict[bool, list[str]] = {False: [], True: []}
    for order_id in results.placed_ms:
        kind = expectations.kinds.get(kind_of(order_id))
        groups[kind is not None and kind.at_once].append(order_id)
    for at_once, text in ((False, "at a steady rate"), (True, "published at once")):
        found = results.timings(groups[at_once])
        if found is not None:
            table.add_row(
                text,
                f"{found.orders:,}",
                f"{found.per_second:,.0f}",
                f"{found.p50_ms:,} ms",
                f"{found.p99_ms:,} ms",
            )
    return table


def dead_letters_table(results: Results, judgements: Mapping[str, Sequence[str]]) -> Table:
    """Topic and reason -> how many, and whether that is as expected."""
    table = Table(title="Dead letters", title_justify="left")
    table.add_column("topic")
    table.add_column("reason")
    table.add_column("messages", justify="right")
    table.add_column("as expected")
    for (topic, reason), count in sorted(results.dead_letters.items()):
        table.add_row(topic, reason, str(count), verdict(judgements[reason]))
    there = {reason for _, reason in results.dead_letters}
    for reason, problems in judgements.items():
        if reason not in there and problems:
            table.add_row("", reason, "0", verdict(problems))
    return table


def invariants_table(report: Report) -> Table:
    """Number -> how many checks, and whether all hold."""
    table = Table(title="Invariants", title_justify="left")
    table.add_column("")
    table.add_column("what holds")
    table.add_column("checks", justify="right")
    table.add_column("")
    for number in sorted({check.invariant for check in report.checks}):
        checks = [one for one in report.checks if one.invariant == number]
        broken = sum(not check.ok for check in checks)
        holds = f"[bold red]{broken} VIOLATED[/]" if broken else "holds"
        table.add_row(str(number), INVARIANTS[number].text, str(len(checks)), holds)
    return table


def print_report(
    console: Console, results: Results, expectations: Expectations, report: Report
) -> bool:
    """Print all of it; whether everything is as it should be."""
    judgements = judge(results, expectations)
    dead = judge_dead_letters(results, expectations)
    for table in (
        kinds_table(results, expectations, judgements),
        timings_table(results, expectations),
        dead_letters_table(results, dead),
        invariants_table(report),
    ):
        console.print(table)
        console.print()
    if not report.ok:
        console.print(report.table(), markup=False, highlight=False)
    problems = [*judgements.values(), *dead.values(), judge_without_order(results, expectations)]
    return report.ok and not any(problems)
