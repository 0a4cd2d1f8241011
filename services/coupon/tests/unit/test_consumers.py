"""The routing table agrees with the registry of topics."""

from __future__ import annotations

from coupon.consumers import routes
from coupon.handlers import EVENTS, REPLIES
from shared.contracts.topics import GROUPS, TOPICS, service_of


def test_every_group_of_coupon_has_its_handler() -> None:
    table = {route.group: route for route in routes("KRW")}
    assert table.keys() == {group for group in GROUPS if service_of(group) == "coupon"}
    assert all(route.topics == GROUPS[route.group] for route in table.values())


def test_requests_keep_their_answers_and_refusals_are_said() -> None:
    """An issued coupon doesn't know its request; a hold has a record to answer from."""
    table = {route.group: route for route in routes("KRW")}
    assert table["coupon-requests"].keeps_answers
    assert table["coupon-requests"].refused is not None
    assert not table["coupon"].keeps_answers
    assert table["coupon"].refused is None


def test_answers_go_where_coupon_may_write() -> None:
    assert TOPICS[REPLIES].writer == "coupon"
    assert TOPICS[EVENTS].writer == "coupon"
