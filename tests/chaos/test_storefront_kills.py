"""Shoppers place and pay over HTTP while the storefront is killed: whoever sends the same again
under the same key has one order, and every order that was told of is there, and ends."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from shared.testing.builders import put_product, top_up_wallet
from shared.testing.signals import eventually
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ..conftest import OpenShop, Shop  # noqa: TID252 - a conftest has no absolute name

PRICE: Final = 1_000
SHOPPERS: Final = 12
PAUSE_S: Final = 0.05
"""Before the same is sent again."""
WITHIN_S: Final = 120
SETTINGS: Final = {
    "STEP_RESEND_S": "3",
    "ORDER_DEADLINE_S": "120",
    "PAY_DEADLINE_S": "900",
    "UNPAID_AT_MOST": "100",
}


@dataclass
class Said:
    """What shoppers were told."""

    orders: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Key -> ids of orders that were answered under it."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)
    """How payments ended."""

    @property
    def lost(self) -> int:
        """Requests that got no answer."""
        return sum(self.errors.values())


async def insist(
    said: Said, ask: Callable[[], Awaitable[httpx.Response]], key: str | None
) -> httpx.Response:
    """Sends the same again until it is settled."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                answer = await ask()
            except httpx.TransportError as error:
                said.errors[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            said.statuses[answer.status_code] += 1
            document = answer.json()
            if key is not None and "orderId" in document:
                said.orders[key].add(document["orderId"])
            in_flight = answer.status_code == 409 and document["reason"] == "in_flight"
            if answer.status_code in (200, 409) and not in_flight:
                return answer
            assert in_flight or answer.status_code in (202, 503), answer.text
            await asyncio.sleep(PAUSE_S)


async def shop_on(said: Said, shopper: Shopper, orders: int) -> None:
    """Places orders and pays them, one after the other; every fifth is paid at once, and every
    seventh can't be."""
    for number in range(orders):
        key = f"k-{number}"
        items = {f"P{number % 3}": 1} if number % 7 else {"DEAR": 1}
        pay = "now" if number % 5 == 0 else "later"

        def place(
            key: str = key, items: dict[str, int] = items, pay: str = pay
        ) -> Awaitable[httpx.Response]:
            return shopper.place(items, key=key, pay=pay)

        placed = await insist(said, place, f"{shopper.user_id} {key}")
        if placed.status_code == 200 and placed.json()["status"] == "AWAITING_PAYMENT":
            order_id = placed.json()["orderId"]

            def pay_it(order_id: str = order_id, key: str = key) -> Awaitable[httpx.Response]:
                return shopper.pay(order_id, key=f"pay-{key}")

            paid = await insist(said, pay_it, None)
            document = paid.json()
            said.paid[document.get("reason") or document["status"]] += 1


async def run(open_shop: OpenShop, folder: Path, *, kills: int, orders: int) -> None:
    async with open_shop(folder, {"storefront": 1}, **SETTINGS) as shop:
        users = [f"user_{number}" for number in range(SHOPPERS)]
        await shop.stock_up(
            *[put_product(f"P{number}", quantity=100_000, price=PRICE) for number in range(3)],
            put_product("DEAR", quantity=100_000, price=10**9),
            *[top_up_wallet(user, amount=orders * PRICE * 2) for user in users],
        )
        said = Said()
        front = shop.instances["storefront-0"]
        async with shop.http() as client, asyncio.TaskGroup() as tasks:
            shopping = [
                tasks.create_task(shop_on(said, Shopper(client, user), orders)) for user in users
            ]
            for number in range(kills):
                due = (number + 1) * len(users) * orders // (kills + 2)
                await eventually(
                    lambda due=due: len(said.orders) >= due,  # type: ignore[misc]
                    within_s=WITHIN_S,
                    describe=f"{due} orders are answered",
                )
                lost = said.lost
                assert not all(task.done() for task in shopping), "every kill falls on work"
                await front.kill()
                await eventually(lambda lost=lost: said.lost > lost, describe="it was missed")  # type: ignore[misc]
                await front.start()
        await judge(shop, said, users, orders)
        print(f"{kills} kills: {said.statuses}, lost {said.errors}, payments {said.paid}")


async def judge(shop: Shop, said: Said, users: list[str], orders: int) -> None:
    """Each key has one order, which is there once and has ended."""
    assert len(said.orders) == len(users) * orders
    assert {len(ids) for ids in said.orders.values()} == {1}
    told = {order_id for ids in said.orders.values() for order_id in ids}
    assert len(told) == len(said.orders)
    outcomes = await shop.outcomes(told)
    await shop.rest(within_s=120)
    assert await shop.value("SELECT count(*) FROM orders.saga") == len(told)
    ended = Counter(outcome.type for outcome in outcomes.values())
    assert ended["OrderConfirmed"] >= len(told) * 2 // 3, ended
    assert ended["OrderRejected"] >= len(told) // 10, ended
    confirmed = sum(outcome.total for outcome in outcomes.values() if outcome.status == "CONFIRMED")
    left = await shop.value("SELECT sum(balance) FROM payment.wallet WHERE user_id LIKE 'user_%'")
    assert left == len(users) * orders * PRICE * 2 - confirmed
    assert said.paid["CONFIRMED"] > 0
    assert said.paid["insufficient_balance"] > 0
    assert said.lost > 0


async def test_f29_every_order_that_was_told_of_is_there_once(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    await run(open_shop, tmp_path, kills=3, orders=15)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_f29_for_as_long_as_it_is_killed(open_shop: OpenShop, tmp_path: Path) -> None:
    await run(open_shop, tmp_path, kills=20, orders=200)
