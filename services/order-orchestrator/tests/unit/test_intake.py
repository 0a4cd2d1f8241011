"""How an order becomes a saga, and what its duplicates are told."""

from datetime import UTC, datetime

from order_orchestrator.domain import Limits, SagaState
from order_orchestrator.events import Start
from order_orchestrator.intake import Arrival, reject_unreadable
from order_orchestrator.outcomes import outcome_event
from order_orchestrator.records import from_record, to_record
from shared.contracts.order_parts import OutcomeReason

ARRIVAL = Arrival(datetime(2026, 1, 1, tzinfo=UTC), "KRW", b"x" * 16)


def test_accepted_with_room_takes_its_first_step_in_one_version(lead):
    order = lead()
    assert order.saga.state is SagaState.RESERVING
    assert (order.saga.version, order.told) == (1, ["OrderAccepted"])
    assert order.ids(order.commands) == ["reserve:do"]
    assert [entry.cause for entry in order.history] == ["PlaceOrder"]


def test_accepted_without_room_waits_for_its_start(lead):
    order = lead(start=False)
    assert (order.saga.state, order.saga.version) == (SagaState.PENDING, 1)
    assert (order.told, order.commands) == (["OrderAccepted"], [])
    assert order.sent(Start()) == ["reserve:do"]
    assert order.saga.version == 2


def test_versions_of_events_rise(lead):
    order = lead(later=True).run_to("commit").complete()
    versions = [event.version for event in order.events]
    assert order.told == ["OrderAccepted", "OrderAwaitingPayment", "OrderConfirmed"]
    assert versions == sorted(set(versions))
    assert [entry.version for entry in order.history] == list(range(1, order.saga.version + 1))
    assert {event.reference for event in order.events} == {"ref"}


def test_the_outcome_is_equal_each_time_it_is_told(lead):
    order = lead().run_to("commit")
    assert outcome_event(order.saga) == order.events[-1]
    order.wait(60).complete()
    assert outcome_event(from_record(to_record(order.saga))) == order.events[-1]
    rejected = lead()
    assert outcome_event(rejected.saga) is None
    rejected.feed(rejected.refused("reserve"))
    assert outcome_event(rejected.wait(60).saga) == rejected.events[-1]


def test_an_unreadable_order_is_stored_as_rejected():
    for user_id in (None, "user_1"):
        result = reject_unreadable("o-9", user_id, "items: missing" * 99, ARRIVAL, Limits())
        assert result.saga.state is SagaState.REJECTED
        assert result.event is not None
        assert result.event.user_id == user_id
        assert result.event.reason is OutcomeReason.INVALID_COMMAND
        assert (result.commands, result.history.version) == ((), 1)
        assert from_record(to_record(result.saga)) == result.saga
