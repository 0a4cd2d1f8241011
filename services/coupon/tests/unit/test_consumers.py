"""The routing table agrees with the registry of topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coupon.consumers import routes
from coupon.doorkeeper import Doorkeeper
from coupon.gates import Gates
from coupon.handlers import EVENTS, REPLIES
from coupon.locks import Locks
from shared.contracts.topics import GROUPS, TOPICS, service_of

if TYPE_CHECKING:
    from shared.database import Pool

GATES = Gates("redis://127.0.0.1:1")


def no_pool() -> Pool:
    raise AssertionError("nothing is asked here")


DOORKEEPER = Doorkeeper(GATES, Locks(GATES, no_pool, lease_s=1.0), no_pool)


def test_every_group_of_coupon_has_its_handler() -> None:
    table = {route.group: route for route in routes("KRW", DOORKEEPER)}
    assert table.keys() == {group for group in GROUPS if service_of(group) == "coupon"}
    assert all(route.topics == GROUPS[route.group] for route in table.values())


def test_requests_keep_their_answers_and_refusals_are_said() -> None:
    """An issued coupon doesn't know its request; a hold has a record to answer from."""
    table = {route.group: route for route in routes("KRW", DOORKEEPER)}
    assert table["coupon-requests"].keeps_answers
    assert table["coupon-requests"].refused is not None
    assert not table["coupon"].keeps_answers
    assert table["coupon"].refused is None


def test_answers_go_where_coupon_may_write() -> None:
    assert TOPICS[REPLIES].writer == "coupon"
    assert TOPICS[EVENTS].writer == "coupon"
