"""What the demo prints, and when it calls itself well."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from local_stack import seed
from local_stack.demo.expectations import Expectations, Kind
from local_stack.demo.report import judge, print_report
from local_stack.demo.results import Outcome, Results
from shared.audit import Check, Moment, Report
from shared.contracts.base import message_id
from shared.contracts.topics import TOPICS

EXPECTED = Expectations(
    kinds={
        "paid": Kind(what="paid at once", outcomes={"CONFIRMED": 2}),
        "late": Kind(
            what="cancelled too late",
            outcomes={"CONFIRMED": 1},
            refusals={"CancelOrder too_late": 1},
        ),
    },
    dead_letters={"too_late": 1, "not_json": 2},
    without_order={"not_json": 2},
)
DEAD_LETTERS = "order-orchestrator-requests.dlq.v1"
HOLDS = Report((Check("units", "stock", 1, Moment.ALWAYS, "units"),))
BROKEN = Report((Check("units", "stock", 1, Moment.ALWAYS, "units", ({"product": "P001"},)),))


def results() -> Results:
    """All as expected."""
    orders = {"paid-0001": 100, "paid-0002": 150, "late-0001": 200}
    return Results(
        placed_ms=dict(orders),
        outcomes={
            order_id: Outcome("CONFIRMED", "", placed_ms + 40)
            for order_id, placed_ms in orders.items()
        },
        refusals={"late": Counter({"CancelOrder too_late": 1})},
        dead_letters=Counter({(DEAD_LETTERS, "too_late"): 1, (DEAD_LETTERS, "not_json"): 2}),
        without_order=Counter({"not_json": 2}),
    )


def printed(found: Results, report: Report = HOLDS) -> tuple[bool, str]:
    console = Console(file=StringIO(), width=150)
    well = print_report(console, found, EXPECTED, report)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return well, text


def test_all_is_well_where_every_order_ends_as_expected() -> None:
    well, text = printed(results())
    assert well
    assert "NO" not in text
    assert "40 ms" in text


def test_an_order_without_outcome_is_not_as_expected() -> None:
    found = results()
    del found.outcomes["paid-0002"]
    assert judge(found, EXPECTED)["paid"] == ["CONFIRMED: 1, not 2", "no outcome: 1, not 0"]
    assert not printed(found)[0]


def test_two_outcomes_of_one_order_are_not_as_expected() -> None:
    found = results()
    found.contradictory.add("paid-0001")
    assert judge(found, EXPECTED)["paid"] == ["paid-0001 has two outcomes"]


@pytest.mark.parametrize("lost", ["refusals", "dead_letters", "without_order"])
def test_a_refusal_that_nobody_hears_of_is_not_as_expected(lost: str) -> None:
    found = results()
    getattr(found, lost).clear()
    assert not printed(found)[0]


def test_each_reason_of_dead_letters_is_judged_and_shown() -> None:
    found = results()
    found.dead_letters[DEAD_LETTERS, "not_json"] = 1
    del found.dead_letters[DEAD_LETTERS, "too_late"]
    found.dead_letters[DEAD_LETTERS, "oversized"] = 3
    well, text = printed(found)
    assert not well
    for problem in ("not_json: 1, not 2", "too_late: 0, not 1", "oversized: 3, not 0"):
        assert f"NO {problem}" in text


def test_messages_that_belong_to_no_order_have_a_row() -> None:
    _, text = printed(results())
    (row,) = (line for line in text.splitlines() if "(no order)" in line)
    assert "2 messages" in row
    assert "2 dead letter: not_json" in row
    assert "yes" in row


def test_a_violated_invariant_is_printed_with_its_rows() -> None:
    well, text = printed(results(), BROKEN)
    assert not well
    assert "1 VIOLATED" in text
    assert "product=P001" in text


def test_an_audit_that_looked_at_nothing_proves_nothing() -> None:
    assert not printed(results(), Report())[0]


def test_orders_of_other_kinds_are_shown_and_not_judged() -> None:
    found = results()
    found.placed_ms["mine-0001"] = 300
    well, text = printed(found)
    assert well
    assert "mine" in text


def test_times_leave_out_what_waits_for_its_user() -> None:
    found = results()
    found.unpaid.add("late-0001")
    timings = found.timings(found.placed_ms)
    assert timings is not None
    assert (timings.orders, timings.took_ms, timings.p99_ms) == (2, 90, 40)


def test_a_seed_is_the_same_each_time_and_fits_its_topics() -> None:
    def whole() -> list[seed.Request]:
        return [*seed.catalogue(), *seed.campaigns(), *seed.wallets(), *seed.coupons()]

    requests = whole()
    assert requests == whole()
    assert len({message_id(request.message) for request in requests}) == len(requests)
    assert {f"P{number:03d}" for number in range(1, 101)} <= {
        request.message.product_id  # type: ignore[attr-defined]
        for request in seed.catalogue()
    }
    for topic, message in requests:
        assert type(message) in TOPICS[topic].messages
