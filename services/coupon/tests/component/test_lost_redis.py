"""Redis is lost, forgetful or away in the midst of a sale: each campaign gives out what it has, and
in the end the gates say what the rows say."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.testing.builders import issue_coupon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from local_stack import Stack
    from shared.contracts.base import Message

ISSUING = ("first_come", "queued", "locked", "conditional")
GATED = ("first_come", "conditional")


@pytest.fixture
async def sale(shop: Any) -> AsyncIterator[Any]:
    """Two instances; the invariants hold after the test, and the gates are their rows."""
    await shop.start(0, 1, CHUNK_MESSAGES="50")
    yield shop
    await shop.check(within_s=120)
    await shop.require_gates()


def asked(campaigns: Sequence[str], first: int, end: int) -> list[Message]:
    """Users from number `first` up to `end` ask each campaign."""
    return [
        issue_coupon(one, user_id=f"u{number}", facts={"user": {"tier": "gold"}})
        for number in range(first, end)
        for one in campaigns
    ]


async def ask(shop: Any, campaigns: Sequence[str], first: int, end: int) -> list[Message]:
    """They do; returns what they asked."""
    requests = asked(campaigns, first, end)
    await shop.ask(*requests)
    return requests


async def require_sold(shop: Any, requests: Sequence[Message], limit: int) -> None:
    """Of each campaign exactly what there is, each number once; all others are told so."""
    numbers: dict[str, list[int]] = {}
    others: Counter[str] = Counter()
    for verdict in await shop.verdicts(requests, within_s=60):
        if verdict.type == "CouponIssued":
            numbers.setdefault(verdict.coupon_id, []).append(verdict.sequence)
        else:
            others[verdict.reason] += 1
    assert all(sorted(each) == list(range(1, limit + 1)) for each in numbers.values())
    assert set(others) <= {"sold_out"}
    assert sum(others.values()) == len(requests) - limit * len(numbers)


async def test_f54_redis_comes_back_empty_in_mid_sale(shop: Any, sale: Any, stack: Stack) -> None:
    campaigns = [(await sale.put(kind, 600))[0] for kind in GATED]
    rebuilt = await sale.total("coupon_gate_rebuilds_total", cause="closed")
    requests = await ask(sale, campaigns, 0, 200)
    await sale.verdicts(requests, within_s=60)
    for turn in range(1, 3):
        selling = asyncio.create_task(ask(sale, campaigns, turn * 200, (turn + 1) * 200))
        await sale.issues_more(campaigns[0])
        await asyncio.to_thread(stack.kill, "valkey")
        await asyncio.to_thread(stack.wait_healthy, "valkey")
        await sale.flush()
        requests += await selling
        await sale.verdicts(requests, within_s=60)
    for one in campaigns:
        assert await sale.issued(one) == 600, "nobody is refused while coupons are left"
    requests += await ask(sale, campaigns, 600, 800)
    await require_sold(sale, requests, 600)
    assert await sale.total("coupon_gate_rebuilds_total", cause="closed") > rebuilt


async def test_f56_nobody_notices_that_scripts_are_forgotten(shop: Any, sale: Any) -> None:
    """Nor that locks are kept by them."""
    campaigns = [(await sale.put(kind, 300))[0] for kind in ISSUING]
    lost = [one.log().count("gates_away") for one in sale.instances.values()]
    over = False
    forgotten = 0

    async def forget() -> None:
        nonlocal forgotten
        while not over:
            await sale.valkey.client.script_flush()
            forgotten += 1

    forgetting = asyncio.create_task(forget())
    try:
        requests = await ask(sale, campaigns, 0, 500)
        await require_sold(sale, requests, 300)
    finally:
        over = True
        await forgetting
    assert forgotten > 20
    assert [one.log().count("gates_away") for one in sale.instances.values()] == lost


async def test_f60_redis_is_away_for_a_whole_sale(shop: Any, sale: Any, stack: Stack) -> None:
    """Postgres alone decides; gates and rows agree again once Redis is back."""
    campaigns = [(await sale.put(kind, 100))[0] for kind in ISSUING]
    left = [(await sale.put(kind, 200))[0] for kind in GATED]
    await asyncio.to_thread(stack.hold, "valkey")
    try:
        requests = await ask(sale, campaigns, 0, 250)
        some = await ask(sale, left, 0, 150)
        await require_sold(sale, requests, 100)
        await sale.verdicts(some, within_s=60)
    finally:
        await asyncio.to_thread(stack.release, "valkey")
        await asyncio.to_thread(stack.wait_healthy, "valkey")
    assert [await sale.issued(one) for one in left] == [150, 150]
    await sale.require_gates()
    await require_sold(sale, [*some, *await ask(sale, left, 150, 300)], 200)


@pytest.mark.parametrize("kind", GATED)
async def test_f59_what_a_gate_gave_away_in_vain_goes_to_others(
    shop: Any, sale: Any, kind: str
) -> None:
    """A gate that was lost knows no holder: those who ask again take all that it has left, and
    who comes after them is turned away, but not for good."""
    (campaign,) = await sale.put(kind, 100)
    holders = await ask(sale, [campaign], 0, 60)
    await sale.verdicts(holders)
    await sale.flush()

    # in one chunk
    again, late = asked([campaign], 0, 40), asked([campaign], 60, 70)
    await sale.ask(*again, *late)
    assert {one.reason for one in await sale.verdicts(again)} == {"already_issued"}
    assert {one.type for one in await sale.verdicts(late)} == {"CouponIssued"}
    others = await ask(sale, [campaign], 70, 120)
    await require_sold(sale, [*holders, *late, *others], 100)
