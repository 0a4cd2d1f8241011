"""Several replicas at once: over one campaign, over one coupon, over one order."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from prometheus_client import REGISTRY

from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    HoldCoupon,
    IssueCoupon,
    PutCampaign,
    RestoreCoupon,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.base import Message

Coupons: TypeAlias = Any  # of conftest.py

REPLICAS = 3


def put(coupon_id: str, limit: int) -> PutCampaign:
    return PutCampaign(
        command_id=f"put-{coupon_id}", coupon_id=coupon_id, kind=CampaignKind.FIRST_COME,
        limit=limit, discount=Discount(type=DiscountType.FIXED, value=500),
    )  # fmt: skip


def issue(number: int, coupon_id: str = "C") -> IssueCoupon:
    return IssueCoupon(
        command_id=f"i-{coupon_id}-{number}", coupon_id=coupon_id, user_id=f"u{number}"
    )


def hold(order_id: str, user_id: str) -> HoldCoupon:
    return HoldCoupon(
        command_id=f"{order_id}:hold:do", order_id=order_id, user_id=user_id, coupon_id="C",
        total=2_000, currency="KRW",
    )  # fmt: skip


def restore(order_id: str, user_id: str) -> RestoreCoupon:
    return RestoreCoupon(
        command_id=f"{order_id}:hold:undo", order_id=order_id, user_id=user_id, coupon_id="C"
    )


async def run_at_once(
    coupons: Coupons, work: Sequence[Sequence[Message]], *, chunk_messages: int
) -> list[dict[str, Any]]:
    """Each replica takes its own messages in chunks, all replicas beside each other.

    Locks must be enough: no deadlock, and no chunk that a constraint had to stop.
    """
    before = faults()

    async def consume(number: int, messages: Sequence[Message]) -> list[dict[str, Any]]:
        answers = []
        for start in range(0, len(messages), chunk_messages):
            chunk = messages[start : start + chunk_messages]
            answers += await coupons.replica(number).run(*chunk)
        return answers

    done = await asyncio.gather(*(consume(number, each) for number, each in enumerate(work)))
    assert faults() == before
    return [answer for answers in done for answer in answers]


def faults() -> dict[str, float]:
    """Chunks that met a deadlock, or that the constraints had to stop."""
    return {
        f"{group} {metric} {labels}": REGISTRY.get_sample_value(
            metric, {"group": group, **labels}
        ) or 0
        for group in ("coupon", "coupon-requests")
        for metric, labels in (
            ("pipeline_retries_total", {"cause": "deadlock"}),
            ("pipeline_halvings_total", {}),
        )
    }  # fmt: skip


@pytest.mark.parametrize("limit", [100, 4_000])
async def test_f63_five_thousand_users_in_three_replicas(limit: int, coupons: Coupons) -> None:
    await coupons.run(put("C", limit))
    random = Random(63)
    requests = [issue(number) for number in range(5_000)]
    # every tenth request comes to a second replica too, as after a rebalance
    work = [requests[number::REPLICAS] for number in range(REPLICAS)]
    for number, twice in enumerate(random.sample(requests, 500)):
        work[number % REPLICAS].append(twice)
    for messages in work:
        random.shuffle(messages)

    answers = await run_at_once(coupons, work, chunk_messages=200)

    verdicts: dict[str, set[str]] = {}
    for answer in answers:
        verdicts.setdefault(answer["commandId"], set()).add(str(answer))
    assert len(verdicts) == 5_000
    assert all(len(each) == 1 for each in verdicts.values()), "one verdict, however often asked"
    issued = {a["userId"]: a["sequence"] for a in answers if a["type"] == "CouponIssued"}
    assert sorted(issued.values()) == list(range(1, limit + 1))
    assert dict(await coupons.rows("SELECT user_id, sequence FROM coupon")) == issued
    assert await coupons.violations() == set()


async def test_f48_chunks_that_name_campaigns_in_inverse_order_do_not_deadlock(
    coupons: Coupons,
) -> None:
    names = [f"C{number:02}" for number in range(20)]
    await coupons.run(*(put(name, 90) for name in names))
    work: list[list[Message]] = [[], [], []]
    for number in range(100):
        for replica in range(REPLICAS):
            order = names if (number + replica) % 2 else names[::-1]
            work[replica] += [issue(number * REPLICAS + replica, name) for name in order]

    answers = await run_at_once(coupons, work, chunk_messages=20)

    assert sum(answer["type"] == "CouponIssued" for answer in answers) == 20 * 90
    assert await coupons.rows("SELECT DISTINCT issued FROM campaign") == [(90,)]
    assert await coupons.violations() == set()


async def test_f48_orders_race_over_the_same_coupons_in_any_order(coupons: Coupons) -> None:
    users = [f"u{number}" for number in range(60)]
    await coupons.run(put("C", 60), *(issue(number) for number in range(60)))
    random = Random(48)
    # each replica has an order of its own for each coupon, ten times over
    work: list[list[Message]] = [[], [], []]
    for attempt in range(10):
        for replica in range(REPLICAS):
            orders = [hold(f"o-{attempt}-{replica}-{user}", user) for user in users]
            work[replica] += random.sample(orders, len(orders))

    answers = await run_at_once(coupons, work, chunk_messages=30)

    held = [a["orderId"].rpartition("-")[2] for a in answers if a["type"] == "CouponHeld"]
    assert sorted(held) == sorted(users), "each coupon went to exactly one order"
    refused = {a["reason"] for a in answers if a["type"] == "CouponRefused"}
    assert refused == {"held_by_another_order"}
    assert await coupons.violations() == set()


async def test_f15_hold_and_restore_of_one_order_race_on_two_replicas(coupons: Coupons) -> None:
    users = [f"u{number}" for number in range(200)]
    await coupons.run(put("C", 200), *(issue(number) for number in range(200)))
    random = Random(15)
    holds = [hold(f"o-{user}", user) for user in users]
    restores = [restore(f"o-{user}", user) for user in users]
    # each replica has both kinds, so that both verdicts come out whoever is faster
    work = [holds[:100] + restores[100:], restores[:100] + holds[100:]]
    for messages in work:
        random.shuffle(messages)

    answers = await run_at_once(coupons, work, chunk_messages=10)

    says = {answer["commandId"]: answer for answer in answers}
    won = {"CouponHeld": 0, "CouponRefused": 0}
    for user in users:
        held, restored = says[f"o-{user}:hold:do"], says[f"o-{user}:hold:undo"]
        won[held["type"]] += 1
        assert (held["type"], restored["effect"]) in {
            ("CouponHeld", "undone"),
            ("CouponRefused", "nothing"),
        }
        assert held.get("reason", "already_restored") == "already_restored"
    assert min(won.values()) > 0, won
    assert await coupons.rows("SELECT DISTINCT state FROM coupon") == [("ISSUED",)]
    assert {row[0] for row in await coupons.rows("SELECT state FROM coupon_hold")} == {
        "RESTORED",
        "TOMBSTONE",
    }
    assert await coupons.violations() == set()


async def test_two_replicas_put_the_same_new_campaign(coupons: Coupons) -> None:
    for round_ in range(10):
        name = f"C{round_}"
        work: list[list[Message]] = [
            [put(name, 5), issue(0, name)],
            [put(name, 5).model_copy(update={"command_id": f"again-{name}"}), issue(1, name)],
        ]

        answers = await run_at_once(coupons, work, chunk_messages=2)

        assert sorted(a.get("sequence", 0) for a in answers) == [0, 0, 1, 2]
    assert await coupons.violations() == set()


async def test_a_hold_does_not_wait_for_those_who_queue_at_its_campaign(coupons: Coupons) -> None:
    await coupons.run(put("C", 5), issue(1))
    async with coupons.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM campaign FOR UPDATE")

        async with asyncio.timeout(2):
            answers = await coupons.run(hold("o-1", "u1"))

    assert answers[0]["discount"] == 500
