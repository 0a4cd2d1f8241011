"""What people read of an audit, and that the pages about it leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from orderctl.audit_text import details, invariants_table
from orderctl.auditing import sources, without_topics
from shared.audit import INVARIANTS, RUNBOOK, Check, Moment, Report
from shared.audit.counters import CHECK as COUNTERS
from shared.audit.gateway import CHECK as GATEWAY
from shared.audit.invariants import load

ROOT = Path(__file__).parents[3]
HOLDS = Check("units", "stock", 1, Moment.ALWAYS, "units are conserved", took_s=0.5)
VIOLATED = Check(
    "ledger", "payment", 4, Moment.ALWAYS, "it sums to zero",
    violations=tuple({"transaction_id": f"t-{number}"} for number in range(100)), more=True,
)  # fmt: skip
UNCHECKED = Check("lag", "stock", 9, Moment.AT_REST, "lag is 0", error="no broker")


def printed(report: Report) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(invariants_table(report))
    return capture.get() + "\n".join(details(report))


def rows(report: Report) -> dict[str, str]:
    cells = [line.split("│") for line in printed(report).splitlines() if line.startswith("│")]
    return {row[1].strip(): row[4].strip() for row in cells if row[1].strip()}


def test_an_invariant_is_ok_violated_or_not_checked() -> None:
    report = Report((HOLDS, VIOLATED, UNCHECKED))
    assert rows(report) == {"1": "ok", "4": "100+ VIOLATED", "9": "NOT CHECKED"}


def test_examples_are_few_and_the_first_step_is_said() -> None:
    text = printed(Report((VIOLATED,)))
    assert "transaction_id=t-4" in text
    assert "transaction_id=t-5" not in text
    assert "and 95 or more others" in text
    assert f"first: {INVARIANTS[4].to_do}" in text
    assert RUNBOOK in text


def test_what_could_not_be_looked_at_is_no_proof() -> None:
    text = printed(Report((HOLDS, UNCHECKED)))
    assert "9 NOT CHECKED  lag (stock): no broker" in text
    assert "everything holds" not in text
    assert "nothing was checked" in printed(Report())
    assert "2 checks in 0.5 s: everything holds" in printed(Report((HOLDS, COUNTERS)))


def test_every_check_has_its_sentence_in_the_docs() -> None:
    page = (ROOT / "docs/invariants.md").read_text()
    names = [one.name for source in sources() for one in load(source.package, source.resource)]
    names += [one.name for one in load("shared", "sql/invariants.sql")]
    names += [COUNTERS.name, GATEWAY.name, *(check.name for check in without_topics("").checks)]
    names += ["orders_are_told_as_they_are"]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_docs_name_no_check_that_there_is_not() -> None:
    page = (ROOT / "docs/invariants.md").read_text()
    table = "\n".join(line for line in page.splitlines() if re.match(r"\| *[0-9]* *\| ", line))
    known = {one.name for source in sources() for one in load(source.package, source.resource)}
    known |= {one.name for one in load("shared", "sql/invariants.sql")}
    known |= {COUNTERS.name, GATEWAY.name, "orders_are_told_as_they_are"}
    known |= {check.name for check in without_topics("").checks}
    assert set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", table)) - known == set()


@pytest.mark.parametrize("number", INVARIANTS)
def test_the_runbook_has_a_chapter_for_each(number: int) -> None:
    assert f"\n### {number} " in (ROOT / RUNBOOK).read_text()
