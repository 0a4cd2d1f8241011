"""The lock of a campaign: renewed while it is held, free when its holder died, and fenced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client import REGISTRY

from coupon import locks
from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    IssueCoupon,
    PutCampaign,
)
from shared.telemetry import metrics
from shared.testing.signals import eventually

if TYPE_CHECKING:
    import pytest

Coupons: TypeAlias = Any  # of conftest.py

LOCK = "{coupon}:lock:C"
PUT = PutCampaign(
    command_id="put-1", coupon_id="C", kind=CampaignKind.LOCKED, limit=3,
    discount=Discount(type=DiscountType.FIXED, value=500),
)  # fmt: skip


def issue(number: int) -> IssueCoupon:
    return IssueCoupon(command_id=f"i-{number}", coupon_id="C", user_id=f"u{number}")


def said(answers: list[dict[str, Any]]) -> list[Any]:
    return [answer.get("sequence") or answer["reason"] for answer in answers]


def conflicts() -> float:
    return float(metrics.RETRIES.labels("coupon-requests", "conflict")._value.get())


async def test_the_lock_is_let_go_after_the_commit_and_the_fence_has_risen(
    coupons: Coupons,
) -> None:
    await coupons.run(PUT)
    for number in range(3):
        assert said(await coupons.run(issue(number))) == [number + 1]
        assert await coupons.valkey.client.exists(LOCK) == 0

    assert await coupons.rows("SELECT fence FROM campaign") == [(3,)]


async def test_who_comes_second_waits_until_the_lock_is_free(coupons: Coupons) -> None:
    await coupons.run(PUT)
    await coupons.valkey.client.set(LOCK, "another", px=60_000)

    waiting = asyncio.create_task(coupons.run(issue(1)))
    await eventually(
        lambda: coupons.valkey.client.info("commandstats"),
        accept=lambda stats: stats["cmdstat_get"]["calls"] > 5,
    )
    assert not waiting.done()
    await coupons.valkey.client.delete(LOCK)

    assert said(await waiting) == [1]


async def test_the_lock_of_a_dead_holder_ends_by_itself(coupons: Coupons) -> None:
    await coupons.run(PUT)
    await coupons.valkey.client.set(LOCK, "dead", px=300)

    assert said(await coupons.run(issue(1))) == [1]


async def test_a_lock_that_nobody_lets_go_is_overruled(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis keeps nobody waiting for good: the token alone keeps others out then."""
    monkeypatch.setattr(locks, "WAIT_LEASES", 0.1)
    await coupons.run(PUT)
    await coupons.valkey.client.set(LOCK, "another", px=60_000)
    before = REGISTRY.get_sample_value("coupon_locks_overruled_total") or 0.0

    assert said(await coupons.run(issue(1))) == [1]
    assert REGISTRY.get_sample_value("coupon_locks_overruled_total") == before + 1
    assert await coupons.valkey.client.get(LOCK) == "another", "it is not ours to take"


async def test_a_lock_without_an_end_is_nobodys(coupons: Coupons) -> None:
    """Somebody set it by hand."""
    await coupons.run(PUT)
    await coupons.valkey.client.set(LOCK, "by hand")

    assert said(await coupons.run(issue(1))) == [1]


async def test_a_lock_is_renewed_while_its_chunk_works(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Often here, so that no slow moment of the machine outlasts the lease."""
    monkeypatch.setattr(locks, "RENEWALS_PER_LEASE", 300)
    holder = coupons.replica(3, lease_s=30.0)
    await holder.run(PUT)
    async with coupons.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM campaign FOR UPDATE")
        asked = asyncio.create_task(holder.run(issue(1)))  # waits for the row
        taken = await eventually(lambda: coupons.valkey.client.get(LOCK), accept=bool)
        before = await sets(coupons)
        await eventually(lambda: sets(coupons), accept=lambda count: count >= before + 6)
        assert await coupons.valkey.client.get(LOCK) == taken
        assert not asked.done()

    assert said(await asked) == [1]


async def sets(coupons: Coupons) -> int:
    """How often a lock was taken or renewed."""
    stats = await coupons.valkey.client.info("commandstats")
    return int(stats["cmdstat_set"]["calls"])


async def test_f58_what_a_holder_saves_after_its_lease_is_refused(coupons: Coupons) -> None:
    """It holds a token; another took the lock since, issued, and let it go."""
    await coupons.run(PUT)
    late = coupons.replica(5)
    before = conflicts()
    began = asyncio.Event()
    go_on = asyncio.Event()
    handlers = late.doorkeeper
    ask = handlers.ask

    def frozen(*given: Any) -> Any:
        return _Frozen(ask(*given), began, go_on)

    handlers.ask = frozen
    asked = asyncio.create_task(late.run(issue(1)))
    await began.wait()
    await coupons.valkey.client.delete(LOCK)  # its lease is over
    assert said(await coupons.run(issue(2))) == [1]
    handlers.ask = ask
    go_on.set()

    assert said(await asked) == [2]
    assert conflicts() == before + 1, "its write came too late, and it began anew"
    assert await coupons.violations() == set()


class _Frozen:
    """A chunk that was asked for, and then stands still until it may go on."""

    def __init__(self, asked: Any, began: asyncio.Event, go_on: asyncio.Event) -> None:
        self._asked, self._began, self._go_on = asked, began, go_on

    async def __aenter__(self) -> Any:
        found = await self._asked.__aenter__()
        self._began.set()
        await self._go_on.wait()
        return found

    async def __aexit__(self, *error: object) -> Any:
        return await self._asked.__aexit__(*error)


async def test_locks_of_several_campaigns_are_taken_together(coupons: Coupons) -> None:
    names = ["A", "B", "C"]
    await coupons.run(
        *(PUT.model_copy(update={"coupon_id": one, "command_id": f"put-{one}"}) for one in names)
    )
    before = REGISTRY.get_sample_value("coupon_lock_seconds_count") or 0.0

    def requests(replica: int) -> list[IssueCoupon]:
        order = names if replica % 2 else names[::-1]
        return [
            IssueCoupon(command_id=f"{replica}-{one}", coupon_id=one, user_id=f"u{replica}")
            for one in order
        ]

    answers = await asyncio.gather(
        *(coupons.replica(number).run(*requests(number)) for number in range(4))
    )

    issued = [answer["sequence"] for each in answers for answer in each if "sequence" in answer]
    assert sorted(issued) == [1] * 3 + [2] * 3 + [3] * 3
    assert (REGISTRY.get_sample_value("coupon_lock_seconds_count") or 0.0) > before
    assert await coupons.violations() == set()
