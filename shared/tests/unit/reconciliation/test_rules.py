"""What two lines say of each other: each case of the table, and what holds of all."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.payment import CallKind as Kind
from shared.contracts.payment import CallState as State
from shared.reconciliation.describing import TO_DO, here, there
from shared.reconciliation.rules import (
    DIFFERENCES,
    Finding,
    Ours,
    Status,
    Theirs,
    Verdict,
    compare,
    given_back_otherwise,
    judge,
)

CHARGE, REFUND = Kind.CHARGE, Kind.REFUND
DONE = {CHARGE: Status.CAPTURED, REFUND: Status.SUCCEEDED}
STATUSES = {
    CHARGE: [None, Status.DECLINED, Status.PROCESSING, Status.CAPTURED],
    REFUND: [None, Status.DECLINED, Status.PROCESSING, Status.SUCCEEDED],
}
AGREES, OPEN, DIFFERS = Verdict.AGREES, Verdict.OPEN, Verdict.CONTRADICTS
LATE, PERSON, MISSING = Verdict.LATE_CAPTURE, Verdict.QUARANTINED, Verdict.MISSING_THERE

TABLE = {
    # nothing, declined, processing, captured
    (CHARGE, State.SUCCEEDED): [MISSING, DIFFERS, DIFFERS, AGREES],
    (CHARGE, State.DECLINED): [AGREES, AGREES, DIFFERS, DIFFERS],
    (CHARGE, State.ABSENT): [OPEN] * 4,
    (CHARGE, State.WATCHED): [AGREES, AGREES, LATE, LATE],
    (CHARGE, State.VOID): [AGREES, AGREES, LATE, LATE],
    (CHARGE, State.WAITING): [OPEN] * 4,
    (CHARGE, State.INTENDED): [OPEN] * 4,
    (CHARGE, State.UNKNOWN): [OPEN] * 4,
    (CHARGE, State.QUARANTINED): [PERSON] * 4,
    # nothing, failed, processing, succeeded
    (REFUND, State.SUCCEEDED): [MISSING, DIFFERS, DIFFERS, AGREES],
    (REFUND, State.DECLINED): [AGREES, AGREES, DIFFERS, DIFFERS],
    (REFUND, State.ABSENT): [OPEN] * 4,
    (REFUND, State.WATCHED): [AGREES, AGREES, DIFFERS, DIFFERS],
    (REFUND, State.VOID): [AGREES, AGREES, DIFFERS, DIFFERS],
    (REFUND, State.WAITING): [OPEN] * 4,
    (REFUND, State.INTENDED): [OPEN] * 4,
    (REFUND, State.UNKNOWN): [OPEN] * 4,
    (REFUND, State.QUARANTINED): [PERSON] * 4,
}


def ours(kind: Kind = CHARGE, state: State = State.SUCCEEDED, **fields: object) -> Ours:
    row = Ours(kind, "payment:o-1", "o-1", state, 1200, "KRW")
    if state is State.QUARANTINED:
        row = row._replace(quarantine="1300 KRW was captured")
    return row._replace(**fields)


def theirs(kind: Kind = CHARGE, status: Status = Status.CAPTURED, **fields: object) -> Theirs:
    line = Theirs(kind, "ch_1", "payment:o-1", status, 1200, "KRW", "ch_1", "o-1")
    return line._replace(**fields)


def expected(kind: Kind, state: State, status: Status | None) -> Verdict:
    return TABLE[kind, state][STATUSES[kind].index(status)]


CASES = [(kind, state, status) for kind, state in product(Kind, State) for status in STATUSES[kind]]


def test_the_table_has_each_case_and_the_states_are_those_of_payment() -> None:
    assert TABLE.keys() == set(product(Kind, State))
    assert all(len(TABLE[kind, state]) == len(STATUSES[kind]) for kind, state in TABLE)
    migration = (files("payment") / "sql/migrations/0002_gateway.sql").read_text("utf-8")
    (listed,) = re.findall(r"CHECK \(state IN \((\s*'WAITING'[^)]*)\)\)", migration)
    assert set(re.findall("'([^']+)'", listed)) == set(State)
    assert set(TO_DO) == set(DIFFERENCES)


@pytest.mark.parametrize(("kind", "state", "status"), CASES)
def test_a_pair_is_judged_as_the_table_says(kind: Kind, state: State, status: Status) -> None:
    line = None if status is None else theirs(kind, status)
    assert compare(ours(kind, state), line) is expected(kind, state, status)


@pytest.mark.parametrize("status", [None, *Status])
def test_what_nobody_here_asked_for_is_unknown_to_us(status: Status | None) -> None:
    if status is None:
        with pytest.raises(ValueError, match="nothing to compare"):
            compare(None, None)
        return
    assert compare(None, theirs(status=status)) is Verdict.UNKNOWN_TO_US


@pytest.mark.parametrize(
    "wrong", [{"amount": 1201}, {"currency": "USD"}, {"charge": "ch_2"}], ids=str
)
@pytest.mark.parametrize(("kind", "state"), list(product(Kind, State)))
def test_another_amount_currency_or_charge_contradicts_in_every_state(
    kind: Kind, state: State, wrong: dict[str, object]
) -> None:
    row = ours(kind, state, reference="ch_1")
    for status in STATUSES[kind][1:]:
        found = compare(row, theirs(kind, status or Status.CAPTURED, **wrong))
        assert found is (PERSON if state is State.QUARANTINED else DIFFERS)


@pytest.mark.parametrize("state", [None, *State])
def test_a_capture_that_was_wholly_given_back_moved_nothing(state: State | None) -> None:
    """Whatever its amount was: a person gave back what should not have been captured."""
    returned = theirs(amount=1300, refunded=1300)
    if state is None:
        assert compare(None, returned) is AGREES
        assert compare(None, returned._replace(refunded=1299)) is Verdict.UNKNOWN_TO_US
        return
    row = ours(state=state)
    if state in (State.DECLINED, State.WATCHED, State.VOID):
        assert compare(row, returned) is AGREES
        assert compare(row, returned._replace(refunded=1299)) is DIFFERS
    else:
        assert compare(row, returned) is (PERSON if state is State.QUARANTINED else DIFFERS)
    if state is State.SUCCEEDED:
        assert compare(row, theirs(refunded=1200)) is AGREES


def test_our_refund_may_have_been_made_under_other_keys() -> None:
    parts = [
        theirs(REFUND, Status.SUCCEEDED, id="re_1", key="by-hand", amount=1000),
        theirs(REFUND, Status.SUCCEEDED, id="re_2", key="by-hand-2", amount=200),
        theirs(REFUND, Status.DECLINED, id="re_3", key="by-hand-3", amount=200),
    ]
    assert given_back_otherwise(ours(REFUND), parts)
    assert not given_back_otherwise(ours(REFUND), parts[:1])
    assert not given_back_otherwise(ours(REFUND), [])
    assert not given_back_otherwise(ours(REFUND, State.UNKNOWN), parts)


HAND = Verdict.BY_HAND
BY_HAND = {
    # as TABLE, by whether all of the charge is given back: no, yes
    (CHARGE, State.DECLINED): ([HAND, HAND, DIFFERS, DIFFERS], [HAND] * 4),
    (CHARGE, State.QUARANTINED): ([PERSON] * 4, [PERSON] * 4),
    (CHARGE, State.UNKNOWN): ([OPEN] * 4, [OPEN] * 4),
    (REFUND, State.SUCCEEDED): ([MISSING, DIFFERS, DIFFERS, DIFFERS], [HAND] * 4),
    (REFUND, State.VOID): ([HAND, HAND, DIFFERS, DIFFERS], [HAND] * 4),
    (REFUND, State.QUARANTINED): ([PERSON] * 4, [PERSON] * 4),
    (REFUND, State.INTENDED): ([OPEN] * 4, [OPEN] * 4),
}


@pytest.mark.parametrize(("kind", "state"), BY_HAND)
@pytest.mark.parametrize("is_returned", [False, True])
def test_what_is_closed_by_hand_is_judged_by_money(
    kind: Kind, state: State, *, is_returned: bool
) -> None:
    row = ours(kind, state, closed_by="ann", reference="ch_1")
    found = []
    for status in STATUSES[kind]:
        amount = 1200 if OPEN in BY_HAND[kind, state][0] else 1300
        line = None if status is None else theirs(kind, status, amount=amount)
        verdict = compare(row, line, is_returned=is_returned)
        found.append(verdict)
        returned = {"ch_1"} if is_returned else set()
        assert [one.verdict for one in judge(row, [line] if line else [], returned)] == [verdict]
    assert found == BY_HAND[kind, state][is_returned]
    assert not HAND.is_difference


@pytest.mark.parametrize("row", [None, ours(REFUND, State.VOID)], ids=["none", "void"])
def test_a_refund_by_hand_is_known_once_all_of_its_charge_is_given_back(row: Ours | None) -> None:
    line = theirs(REFUND, Status.SUCCEEDED, amount=400)
    assert compare(row, line, is_returned=True) is HAND
    assert judge(row, [line], {"ch_2"})[0].verdict is not HAND
    assert compare(row, line).is_difference


def test_a_charge_that_is_not_ours_stays_unknown_whatever_was_given_back() -> None:
    assert compare(None, theirs(), is_returned=True) is Verdict.UNKNOWN_TO_US


calls = st.builds(
    Ours, st.sampled_from(Kind), st.just("payment:o-1"), st.just("o-1"), st.sampled_from(State),
    st.integers(1, 3), st.sampled_from(["KRW", "USD"]),
    st.sampled_from([None, "ch_1", "ch_2"]), st.none(),
)  # fmt: skip
lines = st.builds(
    Theirs, st.just(CHARGE), st.sampled_from(["ch_1", "ch_2", "ch_3"]), st.just("payment:o-1"),
    st.sampled_from([Status.PROCESSING, Status.DECLINED, Status.CAPTURED]), st.integers(1, 3),
    st.sampled_from(["KRW", "USD"]), st.just(""), st.just("o-1"), st.integers(0, 3),
).map(lambda line: line._replace(charge=line.id))  # fmt: skip
books = st.lists(lines, max_size=3, unique_by=lambda line: line.id)


@given(calls, st.none() | lines)
def test_money_that_moved_on_one_side_alone_is_a_difference_unless_it_is_open(
    row: Ours, line: Theirs | None
) -> None:
    row = row._replace(kind=CHARGE)
    verdict = compare(row, line)
    moved_here = row.state is State.SUCCEEDED
    if verdict is Verdict.AGREES and (line is None or line.is_returned):
        assert moved_here <= (line is not None)
    elif verdict is Verdict.AGREES:
        assert line is not None
        assert moved_here == line.is_done
        assert (row.amount, row.currency) == (line.amount, line.currency)
    if verdict is Verdict.OPEN:
        assert row.state in (State.WAITING, State.INTENDED, State.UNKNOWN, State.ABSENT)


@given(calls, st.none() | lines, st.booleans(), st.sampled_from([None, "ann"]))
def test_by_hand_is_said_of_no_money_alone(
    row: Ours, line: Theirs | None, is_returned: bool, closed_by: str | None
) -> None:
    line = line and line._replace(kind=row.kind)
    row = row._replace(closed_by=closed_by)
    verdict = compare(row, line, is_returned=is_returned)
    if verdict is Verdict.BY_HAND:
        nothing_there = line is None or line.status is Status.DECLINED or line.is_returned
        assert is_returned or nothing_there
        assert closed_by or row.state is State.VOID
    elif closed_by and is_returned:
        assert verdict is Verdict.QUARANTINED or expected(row.kind, row.state, None) is OPEN
    if closed_by is None and not is_returned:
        assert verdict is not Verdict.BY_HAND


@given(calls.map(lambda row: row._replace(kind=CHARGE)), books)
def test_each_line_is_told_once_and_the_order_of_the_book_does_not_count(
    row: Ours, book: list[Theirs]
) -> None:
    found = judge(row, book)
    told = [line for one in found for line in one.theirs]
    assert sorted(told) == sorted(book)
    assert [one.ours for one in found if one.ours] == [row]
    assert sorted(map(str, judge(row, book[::-1]))) == sorted(map(str, found))


@given(books)
def test_a_book_without_us_is_all_unknown_but_what_was_given_back(book: list[Theirs]) -> None:
    assert judge(None, book) == [
        Finding(AGREES if line.is_returned else Verdict.UNKNOWN_TO_US, None, (line,))
        for line in book
    ]


def test_of_several_under_one_key_ours_is_the_one_that_we_were_told_of() -> None:
    first, second = theirs(), theirs(id="ch_2", charge="ch_2")
    refused = theirs(id="ch_0", charge="ch_0", status=Status.DECLINED)
    told = judge(ours(reference="ch_2"), [refused, first, second])
    assert [(one.verdict, one.theirs[0].id) for one in told] == [
        (Verdict.AGREES, "ch_2"),
        (Verdict.UNKNOWN_TO_US, "ch_0"),
        (Verdict.UNKNOWN_TO_US, "ch_1"),
    ]
    untold = judge(ours(state=State.UNKNOWN), [refused, second])
    assert untold[0].theirs == (second,), "else the one that got furthest"


def test_both_sides_are_told_in_words() -> None:
    held = Finding(Verdict.QUARANTINED, ours(state=State.QUARANTINED, reference="ch_1"), ())
    assert here(held) == "charge QUARANTINED 1,200 KRW ch_1 (1300 KRW was captured)"
    assert there(held) == "nothing"
    closed = Finding(Verdict.BY_HAND, ours(state=State.DECLINED, closed_by="ann"), ())
    assert here(closed) == "charge DECLINED 1,200 KRW (closed by ann)"
    refund = theirs(REFUND, Status.SUCCEEDED, id="re_1", key="by-hand", order_id=None)
    found = Finding(Verdict.UNKNOWN_TO_US, None, (refund,))
    assert (here(found), there(found)) == ("nothing", "refund succeeded 1,200 KRW re_1 of ch_1")
    assert (found.order_id, found.key) == (None, "by-hand")
