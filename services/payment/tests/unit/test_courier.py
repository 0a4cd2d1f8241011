"""Couriers: a request within its lease or none, as many at once as they may, and an orderly end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from payment.breaker import WINDOW, BreakerState
from payment.calls import Absent, Answer, Call, Captured, Finding, NotTaken, Pace, Silent, key_of
from payment.courier import Courier
from payment.settings import GatewaySettings
from payment.settler import Inflow
from shared.contracts.payment import CallKind, CallState

if TYPE_CHECKING:
    from collections.abc import Callable

    from payment.gateway import Gateway

LEASE_S = 10.0
UNTIL = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
SETTINGS = GatewaySettings(3.0, 4, LEASE_S, 50.0, 50.0, "http://here/gateway/callbacks", Pace())
CAPTURED = Captured("ch_1", 60, "KRW")


def leased(number: int = 1, state: CallState = CallState.INTENDED, **changes: Any) -> Call:
    kind, order_id = CallKind.CHARGE, f"o{number}"
    call = Call(key_of(kind, order_id), order_id, kind, state, "u1", 60, "KRW", "c", "",
                owner="payment-0", attempt=1, next_at=UNTIL)  # fmt: skip
    return replace(call, **changes)


class FakeGateway:
    """Answers at once, or once it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: Answer | Exception = CAPTURED
        self.opened = asyncio.Event()
        self.opened.set()
        self.begun = asyncio.Event()
        self.is_closed = False

    async def send(self, call: Call, expires_at: datetime) -> Answer:
        assert expires_at == UNTIL
        return await self._answer("send", call)

    async def find(self, call: Call) -> Answer:
        return await self._answer("find", call)

    async def close(self) -> None:
        self.is_closed = True

    async def _answer(self, what: str, call: Call) -> Answer:
        self.asked.append((what, call.key))
        self.begun.set()
        await self.opened.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Desk:
    """A courier, its gateway, and what it found out."""

    def __init__(self, settings: GatewaySettings = SETTINGS) -> None:
        self.gateway = FakeGateway()
        self.inflow = Inflow()
        no_pool = cast("Callable[[], Any]", None)
        self.courier = Courier(
            cast("Gateway", self.gateway), self.inflow, no_pool, "payment-0", settings
        )

    def take(self, *calls: Call, age_s: float = 0.0) -> None:
        self.courier.take(calls, time.monotonic() - age_s)

    async def rest(self) -> list[Finding]:
        """What was found out once nothing is under way."""
        while self.courier._errands:
            await asyncio.wait(self.courier._errands)
        if self.inflow._waiting.empty():
            return []
        return [waiting.finding for waiting in await self.inflow.take()]

    @property
    def free(self) -> int:
        return self.courier.lease(UNTIL).free


async def test_a_call_is_sent_under_its_lease_and_its_answer_handed_on() -> None:
    desk = Desk()
    desk.take(leased())
    until, begun = UNTIL, UNTIL - timedelta(seconds=LEASE_S)
    assert await desk.rest() == [Finding("payment:o1", CAPTURED, 1, until, begun)]
    assert desk.gateway.asked == [("send", "payment:o1")]


async def test_f24_what_may_have_been_sent_is_asked_for() -> None:
    desk = Desk()
    desk.gateway.answer = Absent()
    desk.take(leased(1, CallState.UNKNOWN))
    begun = UNTIL - timedelta(seconds=LEASE_S)
    assert await desk.rest() == [Finding("payment:o1", Absent(), 1, None, begun)]
    long_ago = UNTIL - Pace().key_retention
    desk.take(leased(2, CallState.ABSENT), leased(3, CallState.ABSENT, first_sent_at=long_ago))
    await desk.rest()
    assert desk.gateway.asked == [("find", "payment:o1"), ("send", "payment:o2"),
                                  ("find", "payment:o3")]  # fmt: skip


@pytest.mark.parametrize(("age_s", "sends"), [(6.5, True), (7.0, False), (3_600.0, False)])
async def test_f27_a_courier_that_was_frozen_sends_nothing(age_s: float, sends: bool) -> None:
    """Unless a whole time limit fits into what is left of its lease."""
    desk = Desk()
    desk.take(leased(), age_s=age_s)
    assert len(await desk.rest()) == len(desk.gateway.asked) == sends


async def test_as_many_are_handed_over_as_there_is_room_for() -> None:
    desk = Desk()
    desk.gateway.opened.clear()
    assert desk.free == 4
    desk.take(*(leased(number) for number in range(3)))
    assert desk.free == 1
    desk.gateway.opened.set()
    await desk.rest()
    assert desk.free == 4


async def test_f33_an_open_breaker_lets_nothing_out_and_hands_back_what_was_claimed() -> None:
    desk = Desk()
    desk.gateway.answer = Silent("503")
    for number in range(WINDOW):
        desk.take(leased(number))
        await desk.rest()
    assert desk.courier.breaker.state is BreakerState.OPEN
    assert desk.free == 0
    desk.take(leased(99))
    (finding,) = await desk.rest()
    assert isinstance(finding.answer, NotTaken)
    assert not finding.answer.is_failure
    assert finding.expires_at is None
    assert len(desk.gateway.asked) == WINDOW
    assert await desk.courier.run_once() == 0


async def test_f28_a_gateway_that_asks_for_it_is_left_alone() -> None:
    desk = Desk()
    desk.gateway.answer = NotTaken("429", 60.0, is_failure=False)
    desk.take(leased())
    await desk.rest()
    assert desk.free == 0
    assert await desk.courier.run_once() == 0
    assert desk.courier.breaker.state is BreakerState.CLOSED


async def test_an_orderly_end_waits_for_what_is_under_way_and_begins_nothing() -> None:
    desk = Desk()
    desk.gateway.opened.clear()
    desk.take(leased())
    ending = asyncio.create_task(desk.courier.finish())
    await desk.gateway.begun.wait()
    assert desk.free == 0
    assert await desk.courier.run_once() == 0
    assert not ending.done()
    desk.gateway.opened.set()
    batch = await desk.inflow.take()
    assert not ending.done()
    desk.inflow.done(batch)
    await ending


async def test_a_hard_end_tells_nothing_of_what_is_under_way() -> None:
    desk = Desk()
    desk.gateway.opened.clear()
    desk.take(leased())
    await desk.gateway.begun.wait()
    await desk.courier.close()
    assert await desk.rest() == []
    assert desk.gateway.is_closed
