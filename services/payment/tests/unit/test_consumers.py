"""The routing table agrees with the registry of topics."""

from __future__ import annotations

from payment.consumers import routes
from payment.handlers import EVENTS, REPLIES
from payment.outcomes import Outcomes
from shared.contracts.topics import GROUPS, TOPICS, service_of


def test_every_group_of_payment_has_its_handler() -> None:
    table = {route.group: route for route in routes("KRW", None, Outcomes("redis://localhost:1"))}
    assert table.keys() == {group for group in GROUPS if service_of(group) == "payment"}
    assert all(route.topics == GROUPS[route.group] for route in table.values())


def test_requests_keep_their_answers_and_refusals_are_said() -> None:
    """A top-up has no record to answer from; a charge has, and is never refused by an event."""
    table = {route.group: route for route in routes("KRW", None, Outcomes("redis://localhost:1"))}
    assert table["payment-requests"].keeps_answers
    assert table["payment-requests"].refused is not None
    assert not table["payment"].keeps_answers
    assert table["payment"].refused is None


def test_answers_go_where_payment_may_write() -> None:
    assert TOPICS[REPLIES].writer == "payment"
    assert TOPICS[EVENTS].writer == "payment"
