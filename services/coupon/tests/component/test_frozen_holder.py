"""F58: who holds a campaign's lock stands still for longer than its lease, and wakes up."""

from __future__ import annotations

from typing import Any

from shared.testing.builders import issue_coupon
from shared.testing.kafka import Record
from shared.testing.signals import eventually

REQUESTS = "coupon.requests.v1"
USERS, COUPONS = 120, 100
"""More coupons than one instance alone has requests for: some are left for the frozen one."""


async def test_f58_a_holder_that_wakes_up_too_late_saves_nothing(shop: Any) -> None:
    """The frozen instance waits for a message's id, with the campaign's lock and its token: it
    holds no row. The other one issues under the next token meanwhile."""
    await shop.start(0, 1, LOCK_LEASE_S="1", SESSION_TIMEOUT_S="30")
    (campaign,) = await shop.put("locked", COUPONS)
    requests = [
        issue_coupon(campaign, user_id=f"u{number}", command_id=f"{campaign}-{number}")
        for number in range(USERS)
    ]
    first = requests[0]
    async with shop.database.connection() as admin:
        taking = admin.transaction()
        await taking.start()
        await admin.execute(
            "INSERT INTO coupon.inbox (message_type, message_id, fingerprint)"
            " VALUES ($1, $2, $3)", first.type, first.command_id, b"\0" * 16,
        )  # fmt: skip
        await shop.ask(first)
        (frozen,) = await shop.wait_for_locks(1, 0, 1)
        (held,) = [key async for key in shop.valkey.client.scan_iter("{coupon}:lock:*")]
        assert held.endswith(campaign)
        before = await conflicts(shop, frozen)
        shop.instance(frozen).freeze()
        # without a key, so that both have some
        await shop.topics.publish(REQUESTS, [Record(one.to_bytes()) for one in requests[1:]])
        await shop.issues_more(campaign)
        shop.instance(frozen).thaw()
        await taking.rollback()

    verdicts = await shop.verdicts(requests, within_s=60)
    numbers = [one.sequence for one in verdicts if one.type == "CouponIssued"]
    assert sorted(numbers) == list(range(1, COUPONS + 1))
    assert {one.reason for one in verdicts if one.type != "CouponIssued"} == {"sold_out"}
    assert verdicts[0].type == "CouponIssued", "it came first, and not in vain"
    assert await eventually(lambda: conflicts(shop, frozen), accept=lambda found: found > before), (
        "what it saved late was refused"
    )
    await shop.check()


async def conflicts(shop: Any, number: int) -> float:
    """How many chunks of an instance began anew, since others were faster."""
    found: float = await shop.metric(
        "pipeline_retries_total", number=number, group="coupon-requests", cause="conflict"
    )
    return found
