"""Coupon as it runs: Kafka in, Kafka out, a process of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from shared.audit.invariants import Source, audit
from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    HoldCoupon,
    IssueCoupon,
    PutCampaign,
    RestoreCoupon,
    UseCoupon,
)
from shared.testing.builders import draw_lottery
from shared.testing.processes import CRASHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.testing.databases import Database
    from shared.testing.kafka import Topics
    from shared.testing.processes import Instance

    StartService = Callable[..., Awaitable[Instance]]

ADMIN = "coupon.admin.v1"
REQUESTS = "coupon.requests.v1"
COMMANDS = "coupon.commands.v1"
REPLIES = "coupon.replies.v1"
EVENTS = "coupon.events.v1"


def put(coupon_id: str, limit: int, kind: CampaignKind = CampaignKind.FIRST_COME) -> PutCampaign:
    return PutCampaign(
        command_id=f"put-{coupon_id}", coupon_id=coupon_id, kind=kind, limit=limit,
        discount=Discount(type=DiscountType.PERCENT, value=10),
    )  # fmt: skip


def issue(number: int, coupon_id: str) -> IssueCoupon:
    return IssueCoupon(
        command_id=f"i-{coupon_id}-{number}", coupon_id=coupon_id, user_id=f"user_{number}"
    )


def of_order(order_id: str, step: str, user_id: str = "user_1") -> Any:
    """A command of the saga, with the id that the orchestrator derives."""
    fields = {
        "command_id": f"{order_id}:{step}",
        "order_id": order_id,
        "user_id": user_id,
        "coupon_id": "C",
    }
    if step == "hold:do":
        return HoldCoupon(**fields, total=20_000, currency="KRW")
    return (UseCoupon if step == "use:do" else RestoreCoupon)(**fields)


async def require_invariants(database: Database) -> None:
    (await audit(database.operator_dsn, [Source("coupon", "coupon")])).require()


async def test_a_coupon_from_its_campaign_to_its_order_and_back(
    topics: Topics, service: StartService, database: Database
) -> None:
    await topics.create(service="coupon")
    coupon = await service("coupon")

    await topics.publish(ADMIN, [put("C", 1), draw_lottery("C")])
    await topics.message(EVENTS, lambda m: m.type == "CampaignPut")
    refused = await topics.message(EVENTS, lambda m: m.type == "CommandRefused")
    assert (refused.key, refused.reason) == ("C", "not_a_lottery")
    (dead,) = await topics.wait_for("coupon-requests.dlq.v1")
    assert dead.headers is not None
    assert dead.headers["dlq-reason"] == "not_a_lottery"

    await topics.publish(REQUESTS, [issue(1, "C"), issue(2, "C")])
    answers = [record.json for record in await topics.wait_for(EVENTS, count=4)]
    assert [(a["userId"], a.get("sequence"), a.get("reason"))
            for a in answers if "userId" in a] == [
        ("user_1", 1, None), ("user_2", None, "sold_out")
    ]  # fmt: skip

    await topics.publish(COMMANDS, [of_order("o-1", "hold:do")])
    (held,) = await topics.wait_for(REPLIES)
    assert held.key == "o-1"
    assert held.json == {
        "type": "CouponHeld", "commandId": "o-1:hold:do", "orderId": "o-1", "discount": 2_000,
        "currency": "KRW",
    }  # fmt: skip
    await topics.publish(
        COMMANDS,
        [
            of_order("o-1", "use:do"),
            of_order("o-1", "hold:undo"),
            of_order("o-1", "hold:undo"),
            b"{not json",
        ],
    )
    replies = await topics.wait_for(REPLIES, count=4)
    assert [record.message.type for record in replies[1:]] == [
        "CouponUsed", "CouponRestored", "CouponRestored",
    ]  # fmt: skip
    assert replies[2].json == replies[3].json
    await topics.wait_for("coupon.dlq.v1")

    await topics.wait_drained("coupon", "coupon-requests")
    async with coupon.admin() as client:
        metrics = (await client.get("/metrics")).text
    assert "coupons_issued_total 1.0" in metrics
    assert 'coupon_errors_total{reason="sold_out"} 1.0' in metrics
    assert await coupon.terminate() == 0
    await require_invariants(database)


@pytest.mark.parametrize("crash_point", ["before_commit:8", "after_commit:8"])
async def test_f63_a_rush_on_two_instances_one_of_which_dies(
    crash_point: str, topics: Topics, service: StartService, database: Database
) -> None:
    """Four campaigns lie on several partitions, so that both instances issue."""
    await topics.create(service="coupon")
    names = [f"C{number}" for number in range(4)]
    # the campaigns come in four chunks at most, so that it dies among the requests
    dying = await service("coupon", 0, crash_point=crash_point, CHUNK_MESSAGES="50")
    await topics.publish(ADMIN, [put(name, 30) for name in names])
    await topics.wait_for(EVENTS, count=4)
    requests = [issue(number, name) for number in range(200) for name in names]

    # half of the requests find one instance, which dies; the rest finds two
    await topics.publish(REQUESTS, requests[:400])
    assert await dying.exited(within_s=30) == CRASHED
    await topics.publish(REQUESTS, [*requests[300:], *requests[:100]])
    await asyncio.gather(dying.start(), service("coupon", 1, CHUNK_MESSAGES="50"))
    await topics.wait_drained("coupon-requests")

    answers = await topics.wait_for(EVENTS, count=4 + len(requests), within_s=30)
    verdicts: dict[str, set[bytes]] = {}
    for record in [*answers, *await topics.read(EVENTS)]:
        verdicts.setdefault(record.json["commandId"], set()).add(record.value or b"")
    assert len(verdicts) == 4 + len(requests)
    assert all(len(each) == 1 for each in verdicts.values()), "one verdict, however often said"
    said = [record.json for record in await topics.read(EVENTS)]
    for name in names:
        issued = {
            answer["userId"]: answer["sequence"]
            for answer in said
            if answer["type"] == "CouponIssued" and answer["couponId"] == name
        }
        assert sorted(issued.values()) == list(range(1, 31))
    await require_invariants(database)
