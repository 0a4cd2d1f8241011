"""Both books in a file: what is found of them, and that a million lines are no million scans."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from shared.contracts.payment import CallKind as Kind
from shared.contracts.payment import CallState as State
from shared.reconciliation import lines as held
from shared.reconciliation.lines import Group, Lines, Sums
from shared.reconciliation.rules import Ours, Status, Theirs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines()
    yield found
    found.close()


def ours(number: int, kind: Kind = Kind.CHARGE, state: State = State.SUCCEEDED) -> Ours:
    return Ours(kind, f"{kind}:{number}", f"o-{number}", state, 100, "KRW", f"ch_{number}", None)


def theirs(number: int, kind: Kind = Kind.CHARGE, **fields: object) -> Theirs:
    status = Status.CAPTURED if kind is Kind.CHARGE else Status.SUCCEEDED
    line = Theirs(
        kind, f"{kind}_{number}", f"{kind}:{number}", status, 100, "KRW", f"ch_{number}",
        f"o-{number}",
    )  # fmt: skip
    return line._replace(**fields)


def test_lines_come_by_kind_and_key_and_those_that_are_theirs_alone_last(lines: Lines) -> None:
    lines.put_ours([(ours(1, Kind.REFUND), 1.0), (ours(2), 2.0), (ours(1), 3.0)])
    second = theirs(2, id="again")
    lines.put_theirs([theirs(1), theirs(2), second, theirs(3), theirs(1, key="refund:1")])
    assert list(lines.groups()) == [
        Group(Kind.CHARGE, "charge:1", ours(1), [theirs(1)], 3.0),
        Group(Kind.CHARGE, "charge:2", ours(2), [second, theirs(2)], 2.0),
        Group(Kind.REFUND, "refund:1", ours(1, Kind.REFUND), [], 1.0),
        Group(Kind.CHARGE, "charge:3", None, [theirs(3)], 0.0),
        Group(Kind.CHARGE, "refund:1", None, [theirs(1, key="refund:1")], 0.0),
    ]
    for group in lines.groups():
        assert lines.group(group.kind, group.key) == group
    assert lines.group(Kind.CHARGE, "none") == Group(Kind.CHARGE, "none", None, [], 0.0)


def test_what_is_read_again_replaces_what_was_known(lines: Lines) -> None:
    lines.put_ours([(ours(1, state=State.UNKNOWN), 1.0)])
    lines.put_theirs([theirs(1, status=Status.PROCESSING)])
    assert lines.sums() == ({}, {})
    lines.put_ours([(ours(1), 2.0)])
    lines.put_theirs([theirs(1)])
    assert lines.counts() == (1, 1)
    assert lines.sums() == ({"KRW": Sums(100, 0)}, {"KRW": Sums(100, 0)})


def test_money_is_summed_by_currency_where_it_moved(lines: Lines) -> None:
    lines.put_ours([(ours(1), 0.0), (ours(1, Kind.REFUND), 0.0), (ours(2, state=State.VOID), 0.0)])
    lines.put_theirs(
        [theirs(1), theirs(2, currency="USD"), theirs(2, Kind.REFUND, currency="USD", amount=30)]
    )
    here, there = lines.sums()
    assert here == {"KRW": Sums(100, 100)}
    assert there == {"KRW": Sums(100, 0), "USD": Sums(100, 30)}
    assert there["USD"].net == 70


def test_an_order_is_charged_twice_by_its_captures_alone(lines: Lines) -> None:
    again = theirs(1, id="again", key="other")
    lines.put_theirs([theirs(5), theirs(5, id="returned", key="other", refunded=100)])
    lines.put_theirs(
        [theirs(1), again, theirs(2), theirs(2, id="no", status=Status.DECLINED),
         theirs(3, order_id=None), theirs(4, order_id=None), theirs(2, Kind.REFUND)]
    )  # fmt: skip
    assert list(lines.charged_twice()) == [[again, theirs(1)]]


def returned(lines: Lines) -> dict[tuple[str, str], set[str]]:
    """The charges that were given back whole, by the keys of the lines that are of them."""
    groups = list(lines.groups())
    for group in groups:
        assert lines.group(group.kind, group.key) == group
    return {(one.kind, one.key): set(one.returned) for one in groups}


def test_what_is_left_of_a_charge_is_looked_up_where_its_order_was_closed(lines: Lines) -> None:
    by_hand = theirs(1, Kind.REFUND, key="by-hand", amount=60)
    held, known = theirs(1, refunded=60), ours(1, state=State.DECLINED)
    lines.put_ours([(known, 0.0), (ours(1, Kind.REFUND, State.VOID), 0.0)])
    lines.put_theirs([held, by_hand])
    nothing: dict[tuple[str, str], set[str]] = {
        ("charge", "charge:1"): set(), ("refund", "refund:1"): set(), ("refund", "by-hand"): set(),
    }  # fmt: skip
    assert returned(lines) == nothing
    lines.put_theirs([held._replace(refunded=100)])
    assert returned(lines) == nothing, "nobody closed it"
    lines.put_ours([(known._replace(closed_by="ann"), 0.0)])
    assert returned(lines) == nothing | {
        ("charge", "charge:1"): {"ch_1"}, ("refund", "by-hand"): {"ch_1"},
    }  # fmt: skip
    lines.put_theirs([held])
    assert returned(lines) == nothing, "money is still there"


def test_a_refund_that_was_closed_closes_its_order(lines: Lines) -> None:
    closed = ours(1, Kind.REFUND)._replace(closed_by="ann")
    lines.put_ours([(ours(1), 0.0), (closed, 0.0), (ours(2), 0.0)])
    lines.put_theirs([theirs(1, refunded=100), theirs(1, Kind.REFUND, key="by-hand")])
    assert lines.group(Kind.REFUND, "refund:1").returned == {"ch_1"}
    assert lines.group(Kind.REFUND, "by-hand").returned == {"ch_1"}
    assert lines.group(Kind.CHARGE, "charge:1").returned == frozenset()


@pytest.mark.parametrize(
    ("statement", "by"),
    [
        ("_PAIRED", "(kind=? AND key=?)"),
        ("_THEIRS_ALONE", "(kind=? AND key=?)"),
        ("_OURS_OF_KEY", "(kind=? AND key=?)"),
        ("_THEIRS_OF_KEY", "(kind=? AND key=?)"),
        ("_OF_CHARGE", "theirs_charge (charge=?"),
        ("_RETURNED", "theirs_charge (charge=?"),
        ("_CAPTURES", "theirs_captured (order_id=?"),
    ],
)
def test_no_statement_reads_all_of_a_book_for_one_line(statement: str, by: str) -> None:
    """By its kind alone each line would be sought among all: hours for a million."""
    file = sqlite3.connect("")
    file.executescript(held._TABLES)
    sql = getattr(held, statement)
    rows = file.execute(f"EXPLAIN QUERY PLAN {sql}", ("",) * sql.count("?"))
    sought, *_ = [row[3] for row in rows if row[3].startswith("SEARCH")]
    assert by in sought
    file.close()
