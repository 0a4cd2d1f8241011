"""Admission counts, and paces how fast new orders are read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from order_orchestrator import admission as module
from order_orchestrator.admission import Admission
from order_orchestrator.chunk import Sagas
from order_orchestrator.consumers import REQUESTS, routes
from order_orchestrator.domain import Limits
from order_orchestrator.store import SagaMemory
from shared.pipeline import Delivery
from shared.pipeline.messages import Received
from shared.testing.builders import cancel_order, place_order

if TYPE_CHECKING:
    from shared.contracts.base import Message

LIMIT = 10


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what waits without need fails by the test's own timeout."""
    monkeypatch.setattr(module, "PACE_S", 3_600.0)
    monkeypatch.setattr(module, "PACE_AT_MOST_S", 7_200.0)


@pytest.fixture
def admission() -> Admission:
    counted = Admission(LIMIT)
    counted.counted(0, pending=False)
    return counted


def deliver(*messages: Message) -> list[Delivery]:
    received = Received("orders.commands.v1", 0, 0, 0, None, None, "")
    return [Delivery(message, "", b"", received, "") for message in messages]


def orders(number: int) -> list[Delivery]:
    return deliver(*[place_order(f"o-{n}") for n in range(number)])


async def begins(
    admission: Admission, deliveries: list[Delivery], *, hurried: bool = False
) -> asyncio.Task[None]:
    """A chunk that has run as far as it can by now."""
    chunk = asyncio.create_task(admission.pace(deliveries, lambda: hurried))
    for _ in range(10):
        await asyncio.sleep(0)
    return chunk


async def test_a_chunk_waits_until_all_of_it_may_start(admission: Admission) -> None:
    admission.started(LIMIT)
    chunk = await begins(admission, orders(2))
    admission.left(1)
    await asyncio.sleep(0)
    assert not chunk.done()
    admission.left(1)
    await chunk
    starts = admission.begin()
    assert [starts.try_start() for _ in range(3)] == [True, True, False]


async def test_a_large_chunk_waits_for_a_part_of_the_limit_alone(admission: Admission) -> None:
    admission.started(LIMIT - 1)
    chunk = await begins(admission, orders(5 * LIMIT))
    assert not chunk.done()
    admission.left(1)
    await chunk


def test_a_transaction_that_is_rolled_back_takes_no_place(admission: Admission) -> None:
    for _ in range(3):
        starts = admission.begin()
        assert all(starts.try_start() for _ in range(LIMIT))
    assert admission.room == LIMIT
    starts = admission.begin()
    assert [starts.try_start() for _ in range(LIMIT + 1)] == [True] * LIMIT + [False]
    assert (admission.room, admission.has_pending) == (LIMIT, False)
    starts.commit()
    assert (admission.room, admission.has_pending) == (0, True)
    assert not admission.begin().try_start()


def test_new_orders_are_paced(admission: Admission) -> None:
    table = routes("KRW", Sagas(Limits(), SagaMemory(1)), admission)
    assert [route.group for route in table if route.pace == admission.pace] == [REQUESTS]


async def test_a_chunk_lets_those_who_waited_longer_go_first(admission: Admission) -> None:
    admission.counted(0, pending=True)
    chunk = await begins(admission, orders(1))
    assert not chunk.done()
    admission.counted(0, pending=False)
    await chunk


async def test_nobody_who_cancels_or_pays_waits(admission: Admission) -> None:
    admission.started(LIMIT)
    chunk = await begins(admission, [*orders(3), *deliver(cancel_order("o-9"))])
    assert chunk.done()


async def test_nothing_readable_waits_for_nothing(admission: Admission) -> None:
    admission.counted(LIMIT, pending=True)
    assert (await begins(admission, [])).done()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four looks, one after the other."""
    monkeypatch.setattr(module, "PACE_S", 0.02)
    monkeypatch.setattr(module, "PACE_AT_MOST_S", 0.08)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("left_each_look", "hurried", "looks"),
    [(0, False, 1), (1, False, 1), (2, False, 4), (2, True, 1)],
    ids=["nobody ends", "too few end", "enough end", "hurried"],
)
async def test_a_chunk_waits_on_only_where_it_comes_to_an_end(
    left_each_look: int, hurried: bool, looks: int
) -> None:
    """Of the eight places that it wants, two have to come free in each of four looks."""
    admission = Admission(100)
    admission.counted(1_000, pending=False)
    asked = 0

    def look() -> bool:
        nonlocal asked
        asked += 1
        asyncio.get_running_loop().call_soon(admission.left, left_each_look)
        return hurried

    asyncio.get_running_loop().call_soon(admission.left, left_each_look)
    await admission.pace(orders(8), look)
    assert asked == looks
    assert not admission.begin().try_start()
