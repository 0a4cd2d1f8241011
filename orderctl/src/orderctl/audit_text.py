"""What an audit found, as text for people: the ten invariants, and what to do about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

from orderctl.terminal import cell
from shared.audit import INVARIANTS, RUNBOOK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from shared.audit import Check, Report

EXAMPLES: Final = 5
ROW_CHARACTERS: Final = 200


def invariants_table(report: Report) -> Table:
    """An invariant a row: what it says, how many checks looked, and whether it holds."""
    table = Table()
    table.add_column("", justify="right")
    table.add_column("what holds", overflow="fold")
    table.add_column("checks", justify="right")
    table.add_column("found", no_wrap=True)
    for number in sorted({check.invariant for check in report.checks}):
        checks = [check for check in report.checks if check.invariant == number]
        made = [check for check in checks if not check.error]
        text = INVARIANTS[number].text if number in INVARIANTS else checks[0].text
        table.add_row(str(number), cell(text), str(len(made)), cell(_verdict(checks)))
    return table


def details(report: Report) -> Iterator[str]:
    """Below the table: each violation with examples and what to do, and what was not checked."""
    for number in sorted({check.invariant for check in report.violated}):
        yield ""
        for check in report.violated:
            if check.invariant == number:
                where = f"{check.place}, {check.moment}"
                yield f"{number} VIOLATED  {check.name} ({where}): {check.text}"
                yield from (f"    {_row(row)}" for row in check.violations[:EXAMPLES])
                left = len(check.violations) - EXAMPLES
                if left > 0:
                    yield f"    and {left}{' or more' if check.more else ''} others"
        if number in INVARIANTS:
            yield f"  first: {INVARIANTS[number].to_do}"
    for check in report.unchecked:
        yield f"{check.invariant} NOT CHECKED  {check.name} ({check.place}): {check.error}"
    yield ""
    yield _summary(report)


def _summary(report: Report) -> str:
    took_s = sum(check.took_s for check in report.checks)
    text = f"{len(report.checks)} checks in {took_s:.1f} s: "
    if report.ok:
        return f"{text}everything holds"
    parts = []
    if report.violated:
        parts.append(f"{len(report.violated)} violated")
    if report.unchecked:
        parts.append(f"{len(report.unchecked)} not made, which proves nothing")
    if not report.checks:
        parts.append("nothing was checked")
    return f"{text}{', '.join(parts)}; {RUNBOOK} says what to do"


def _verdict(checks: Sequence[Check]) -> str:
    found = sum(len(check.violations) for check in checks)
    words = []
    if found:
        words.append(f"{found}{'+' if any(check.more for check in checks) else ''} VIOLATED")
    if any(check.error for check in checks):
        words.append("NOT CHECKED")
    return ", ".join(words) or "ok"


def _row(row: Mapping[str, Any]) -> str:
    text = "  ".join(f"{name}={value}" for name, value in row.items())
    return text if len(text) <= ROW_CHARACTERS else f"{text[:ROW_CHARACTERS]}…"
