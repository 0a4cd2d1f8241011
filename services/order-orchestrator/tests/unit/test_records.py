"""Rows: what is written is read back, what older code wrote is read, and the rest has a name."""

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_orchestrator.domain import (
    Cancel,
    CancelledBy,
    Ending,
    Order,
    Price,
    Saga,
    SagaState,
    StepStatus,
    Stuck,
    Told,
)
from order_orchestrator.records import (
    UnreadableSagaError,
    from_record,
    placed_columns,
    progress_columns,
    to_record,
)
from order_orchestrator.saga import DEFINITION_VERSION
from shared.contracts.coupon import CouponRefusal
from shared.contracts.order_parts import (
    CouponDetail,
    Line,
    LineDetail,
    OutcomeReason,
    PaymentChoice,
    PaymentMethod,
    PayTiming,
    PricedLine,
)

ids = st.text("aZ09._-", min_size=1, max_size=64)
notes = st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=500)
moments = st.integers(0, 10**15).map(
    lambda micros: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
)
money = st.integers(0, 10**15)
payments = st.tuples(st.sampled_from(PaymentMethod), money).map(
    lambda drawn: PaymentChoice(method=drawn[0], points=drawn[1])
)
details = st.tuples(ids, st.integers(1, 10_000), st.integers(0, 10**9)).map(
    lambda drawn: LineDetail(product_id=drawn[0], requested=drawn[1], available=drawn[2])
) | st.sampled_from(CouponRefusal).map(lambda reason: CouponDetail(coupon_reason=reason))
endings = st.builds(
    Ending,
    state=st.sampled_from([SagaState.REJECTED, SagaState.CANCELLED]),
    reason=st.sampled_from(OutcomeReason),
    details=st.lists(details, max_size=3).map(tuple),
    note=notes,
)


@st.composite
def sagas(draw):
    products = sorted(draw(st.sets(ids, min_size=1, max_size=4)))
    lines = tuple(
        Line(product_id=product_id, quantity=draw(st.integers(1, 10_000)))
        for product_id in products
    )
    items = tuple(
        PricedLine(
            product_id=line.product_id,
            quantity=line.quantity,
            unit_price=draw(st.integers(0, 10**9)),
        )
        for line in lines
    )
    subtotal = sum(item.quantity * item.unit_price for item in items)
    order = Order(
        order_id=draw(ids),
        user_id=draw(ids),
        lines=lines,
        coupon_id=draw(ids),
        payment=draw(payments),
        pay=draw(st.sampled_from(PayTiming)),
        expected_total=draw(st.none() | money),
        reference=draw(notes),
        currency="KRW",
        fingerprint=draw(st.binary(min_size=16, max_size=16)),
        fingerprint_version=1,
        traceparent=draw(st.none() | st.just("00-trace")),
        accepted_at=draw(moments),
    )
    return Saga(
        order=order,
        definition_version=DEFINITION_VERSION,
        state=draw(st.sampled_from([state for state in SagaState if state != "COMPENSATING"])),
        version=draw(st.integers(1, 2**53)),
        steps=draw(st.tuples(*[st.sampled_from(StepStatus)] * 5)),
        payment=draw(payments),
        price=Price(items, subtotal, draw(st.integers(0, subtotal))),
        pay_command_id=draw(st.none() | ids),
        cancel=draw(st.none() | st.builds(Cancel, st.sampled_from(CancelledBy), notes)),
        ending=draw(st.none() | endings),
        told=draw(st.none() | st.builds(Told, st.integers(1, 9), moments)),
        stuck=draw(st.none() | st.builds(Stuck, moments, st.text(min_size=1))),
        sends=draw(st.integers(0, 99)),
        last_sent_at=draw(st.none() | moments),
        deadline_at=draw(st.none() | moments),
        pay_by=draw(st.none() | moments),
        timer_at=draw(st.none() | moments),
    )


def through_json(record):
    """As the store keeps it: the two documents pass through JSON."""
    documents = {name: json.loads(json.dumps(record[name])) for name in ("placed", "progress")}
    return record | documents


@given(sagas())
def test_what_is_written_is_read_back(saga):
    assert from_record(through_json(to_record(saga))) == saga


def test_the_columns_that_never_change_and_those_that_do_are_apart(lead):
    saga = lead().run_to("charge").saga
    placed, progress = placed_columns(saga), progress_columns(saga)
    assert not placed.keys() & progress.keys()
    assert to_record(saga) == placed | progress


def test_unknown_keys_of_newer_rows_are_left_alone(lead):
    saga = lead().run_to("charge").saga
    record = through_json(to_record(saga))
    record["new_column"] = 1
    record["placed"]["giftWrap"] = True
    record["progress"]["shards"] = [1]
    assert from_record(record) == saga


def test_keys_that_may_be_absent(lead):
    saga = lead(coupon=False).saga
    record = through_json(to_record(saga))
    kept = {"v", "lines", "payment", "pay", "currency"}
    assert record["placed"].keys() == kept | {"reference"}
    assert record["progress"].keys() == {"v", "steps", "sends", "lastSentAt", "deadlineAt"}
    for column in ("traceparent", "stuck_since", "stuck_why", "told_version", "told_at"):
        del record[column]
    assert from_record(record)._replace(order=saga.order) == saga


def set_in(record, path, value):
    damaged = copy.deepcopy(record)
    *way, last = path.split(".")
    place = damaged
    for name in way:
        place = place[name]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return damaged


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("placed", None),
        ("placed", []),
        ("placed.lines", KeyError),
        ("placed.lines", [["P001", 0]]),
        ("placed.lines", [["P001"]]),
        ("placed.lines", [["P001", "2"], ["P002", 1]]),
        ("placed.payment", {"method": "gold"}),
        ("placed.pay", "never"),
        ("placed.couponId", KeyError),
        ("progress", None),
        ("progress.steps", {"teleport": "done"}),
        ("progress.steps", {"reserve": "maybe"}),
        ("progress.prices", KeyError),
        ("progress.prices", [1]),
        ("progress.discount", 10**9),
        ("progress.discount", -1),
        ("progress.cancel", {"by": "cat"}),
        ("progress.deadlineAt", "soon"),
        ("progress.lastSentAt", 5),
        ("progress.ending", {"state": "REJECTED", "reason": "mood"}),
        ("state", "DREAMING"),
        ("state", "COMPENSATING"),
        ("state", None),
        ("version", KeyError),
        ("definition_version", DEFINITION_VERSION + 1),
        ("definition_version", 0),
    ],
)
def test_f21_a_row_that_can_not_be_read_has_a_named_error(lead, path, value):
    record = through_json(to_record(lead().run_to("charge").saga))
    assert from_record(record)
    with pytest.raises(UnreadableSagaError) as raised:
        from_record(set_in(record, path, value))
    assert raised.value.order_id == "o-1"
    assert raised.value.detail


def test_f21_a_state_that_needs_the_price_is_not_read_without(lead):
    record = to_record(lead().saga) | {"state": "AWAITING_PAYMENT"}
    with pytest.raises(UnreadableSagaError, match="no price"):
        from_record(record)


def test_f21_an_empty_row(lead):
    with pytest.raises(UnreadableSagaError):
        from_record({})


def test_times_keep_their_microseconds(lead):
    saga = lead().saga
    moved = saga._replace(timer_at=saga.timer_at + timedelta(microseconds=1))
    assert from_record(to_record(moved)).timer_at == moved.timer_at
