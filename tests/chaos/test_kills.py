"""Orders at once, many on few products and few users, while everything is killed, and the gateway
that some are paid by loses answers.

Orders come in waves, and a blow falls on each wave once a part of it has its outcomes, so that
each falls on work. What must hold is that of every other test: one outcome each, and every
invariant.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from local_stack import SERVICES
from shared.testing.builders import (
    issue_coupon,
    pay_order,
    place_order,
    put_campaign,
    put_product,
    top_up_wallet,
)
from shared.testing.chaos import Fault, faults_of, faults_of_part
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from local_stack import Stack
    from shared.contracts.base import Message

    from ..conftest import OpenShop, Shop  # noqa: TID252 - a conftest has no absolute name

INFRASTRUCTURE = ("postgres", "valkey", "kafka")
PRODUCTS, USERS, PRICE = 5, 10, 1_000
SETTINGS = {
    # small chunks and few sagas at once: work lasts, and blows fall on it
    "CHUNK_MESSAGES": "10",
    "SAGAS_WAITING": "12",
    "STEP_RESEND_S": "3",
    "RESEND_AT_MOST_S": "10",
    "ORDER_DEADLINE_S": "120",
    "PAY_DEADLINE_S": "900",
    "UNDO_SENDS": "100",
}
GATEWAY_FAULTS = (
    {"fault": "hang_after_charge", "share": 0.1, "seconds": 30},
    {"fault": "hang_before_charge", "share": 0.1, "seconds": 30},
    {"fault": "error_after_charge", "share": 0.2},
    {"fault": "duplicate_webhooks", "times": 1},
)


@dataclass
class Workload:
    """Orders of which some can't be served: too few units, too little money, coupons held."""

    count: int
    seed: int
    placed: list[Message] = field(default_factory=list)
    paid: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        for number in range(self.count):
            order_id, user_id = f"o-{number:05}", f"user_{chance.randrange(USERS)}"
            products = chance.sample(range(PRODUCTS), k=chance.choice([1, 1, 1, 2, 3]))
            later = chance.random() < 0.2
            by_gateway = chance.random() < 0.3
            self.placed.append(
                place_order(
                    order_id,
                    user_id=user_id,
                    items={f"P{product}": chance.randint(1, 3) for product in products},
                    coupon_id="RUSH" if chance.random() < 0.3 else None,
                    pay="later" if later else "now",
                    method="gateway" if by_gateway else "wallet",
                )
            )
            if later:
                self.paid.append(pay_order(order_id, user_id=user_id))

    def wave(self, number: int, of: int) -> list[Message]:
        """A share of the orders, and the payments of those that are paid later."""
        share = self.placed[number::of]
        ids = {place.order_id for place in share}  # type: ignore[attr-defined]
        return [*share, *(pay for pay in self.paid if pay.order_id in ids)]  # type: ignore[attr-defined]

    def supplies(self) -> list[Message]:
        """Units for half of it, money for a little more, and one coupon for each user."""
        units = sum(line.quantity for place in self.placed for line in place.items)  # type: ignore[attr-defined]
        each = units // 2 // PRODUCTS
        money = units * PRICE * 11 // 20 // USERS
        users = [f"user_{number}" for number in range(USERS)]
        return [
            *[put_product(f"P{number}", quantity=each, price=PRICE) for number in range(PRODUCTS)],
            *[top_up_wallet(user, amount=money) for user in users],
            put_campaign("RUSH", limit=USERS, percent=10),
            *[issue_coupon("RUSH", user_id=user) for user in users],
        ]


def blackout(shop: Shop, stack: Stack) -> Fault:
    """The broker is gone, what is decided can't be published, and then every service dies: what
    is left is what Postgres holds (F34, F41)."""
    unpublished = " UNION ALL ".join(
        f"SELECT chunk_id FROM {service.role}.outbox WHERE published_at IS NULL"
        for service in SERVICES
        if service.role
    )

    async def inject() -> None:
        await asyncio.to_thread(stack.hold, "kafka")
        await eventually(
            lambda: shop.value(f"SELECT count(*) FROM ({unpublished}) AS chunk"),
            within_s=60,
            describe="something decided is not published",
        )
        for instance in shop.instances.values():
            await instance.kill()

    async def heal() -> None:
        for instance in shop.instances.values():
            instance.spawn()
        await asyncio.to_thread(stack.release, "kafka")
        await shop.heal()

    return Fault("blackout", "everything", inject, heal)


async def outcomes_so_far(shop: Shop) -> int:
    """How many orders have their outcome, told by the topic of events."""
    found = {
        record.headers["ce_id"]
        for record in await shop.topics.read("orders.events.v1")
        if record.headers["ce_type"] in ("OrderConfirmed", "OrderRejected", "OrderCancelled")
    }
    return len(found)


@dataclass(frozen=True)
class Blow:
    """One that was dealt, and how many orders had been placed and had their outcomes then."""

    kind: str
    target: str
    placed: int
    ended: int


async def strike(shop: Shop, faults: list[Fault], work: Workload) -> list[Blow]:
    """Places a wave of orders for each blow, and deals it once a quarter of them has ended."""
    log: list[Blow] = []
    placed = 0
    for number, fault in enumerate(faults):
        await shop.publish(*work.wave(number, len(faults)))
        share = len(work.placed[number :: len(faults)])
        placed += share
        await shop.topics.wait_for(
            "orders.events.v1",
            lambda record: record.headers["ce_type"] in ("OrderConfirmed", "OrderRejected"),
            count=placed - share * 3 // 4,
            within_s=120,
        )
        log.append(Blow(fault.kind, fault.target, placed, await outcomes_so_far(shop)))
        try:
            await fault.inject()
        finally:
            await fault.heal()
        await shop.is_sound()  # while work goes on
    return log


async def run(
    open_shop: OpenShop,
    stack: Stack,
    folder: Path,
    *,
    orders: int,
    rounds: int,
    replicas: dict[str, int],
    seed: int,
) -> None:
    work = Workload(orders, seed)
    chance = random.Random(seed)
    async with open_shop(folder, replicas, **SETTINGS) as shop:
        await shop.stock_up(*work.supplies())
        await shop.gateway.faults(*GATEWAY_FAULTS, seed=seed)
        faults: list[Fault] = []
        targets = [
            *[fault for each in shop.instances.values() for fault in faults_of(each, ("kill",))],
            *[fault for part in INFRASTRUCTURE for fault in faults_of_part(stack, part, ("kill",))],
        ]
        targets += faults_of(shop.gateway.process, ("kill",))
        targets.append(blackout(shop, stack))
        for _ in range(rounds):
            faults += chance.sample(targets, len(targets))
        started_at = time.monotonic()
        log = await strike(shop, faults, work)
        outcomes = await shop.outcomes(place.order_id for place in work.placed)  # type: ignore[attr-defined]
        took_s = time.monotonic() - started_at
        report = await shop.rest(within_s=120)

        assert {check.name for check in report.checks} >= {
            "lag_is_zero", "orders_have_one_outcome", "sagas_have_ended",
        }  # fmt: skip
        said = Counter(outcome.type for outcome in outcomes.values())
        reasons = Counter(getattr(outcome, "reason", "confirmed") for outcome in outcomes.values())
        print(f"{orders} orders, {len(faults)} kills, {took_s:.0f} s: {dict(reasons)}")
        for blow in log:
            print(f"  {blow.kind} {blow.target} at {blow.ended} outcomes of {blow.placed} orders")
        require(log, shop, said, reasons, orders=orders, rounds=rounds)
        strikes = await shop.gateway.strikes()
        print(f"  at the gateway: {strikes}")
        assert min(strikes.values()), strikes
        assert (await shop.gateway.totals())["double_charges"] == 0
        assert await shop.value("SELECT count(*) FROM orders.saga") == orders
        stuck = "SELECT count(*) FROM orders.saga WHERE stuck_since IS NOT NULL"
        assert await shop.value(stuck) == 0


def require(
    log: list[Blow],
    shop: Shop,
    said: Counter[str],
    reasons: Counter[Any],
    *,
    orders: int,
    rounds: int,
) -> None:
    """A run that proves nothing fails."""
    kills = Counter(blow.target for blow in log)
    victims = [*shop.instances, *INFRASTRUCTURE, "gateway-0", "everything"]
    assert kills == dict.fromkeys(victims, rounds)
    assert not [blow for blow in log if blow.ended >= blow.placed], "every blow fell on work"
    assert said["OrderConfirmed"] >= orders // 4, said
    assert said["OrderRejected"] >= orders // 20, said
    assert said["OrderConfirmed"] + said["OrderRejected"] == orders
    assert reasons["coupon_refused"] > 0, reasons
    assert reasons["out_of_stock"] > 0, reasons
    assert not {"saga_timeout", "payment_timeout"} & reasons.keys(), (
        "no order was undone that could be served"
    )


@pytest.mark.timeout(400)
async def test_everything_is_killed_once(open_shop: OpenShop, stack: Stack, tmp_path: Path) -> None:
    await run(open_shop, stack, tmp_path, orders=400, rounds=1, replicas={}, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_everything_is_killed_again_and_again(
    open_shop: OpenShop, stack: Stack, tmp_path: Path
) -> None:
    """Two instances of each service."""
    replicas = dict.fromkeys(("stock", "coupon", "payment", "order-orchestrator"), 2)
    await run(open_shop, stack, tmp_path, orders=2_000, rounds=2, replicas=replicas, seed=2)
