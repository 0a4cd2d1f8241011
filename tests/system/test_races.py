"""F15: the `do` and the `undo` of a step meet in two instances of their participant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from order_orchestrator.domain import Order, Price, Saga, SagaState
from order_orchestrator.saga import DEFINITION_VERSION, NOTHING_STARTED, PIVOT, STEPS
from shared.contracts.order_parts import PAY_FROM_WALLET, Line, PayTiming, PricedLine
from shared.testing.builders import issue_coupon, put_campaign, put_product, top_up_wallet
from shared.testing.kafka import Record

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import OpenShop, Shop  # noqa: TID252 - a conftest has no absolute name

ORDERS = 60
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WON = {"StockReserved", "CouponHeld", "PaymentCharged"}


def saga_of(order_id: str, user_id: str) -> Saga:
    """A saga that has come as far as its price, so that every step can be built."""
    line = Line(product_id="P001", quantity=2)
    order = Order(
        order_id, user_id, (line,), "RACE", PAY_FROM_WALLET, PayTiming.NOW, None, None, "KRW",
        bytes(16), 1, None, NOW,
    )  # fmt: skip
    priced = PricedLine(product_id="P001", quantity=2, unit_price=1_000)
    return Saga(
        order,
        DEFINITION_VERSION,
        SagaState.CHARGING,
        1,
        NOTHING_STARTED,
        PAY_FROM_WALLET,
        Price((priced,), 2_000, 200),
    )


async def test_f15_do_and_undo_on_two_instances_one_wins(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    """Both lie on other partitions, so that two instances take them at one time. Where the `do`
    came first it is undone; where the `undo` did, the `do` is refused; the units follow."""
    replicas = {"stock": 2, "coupon": 2, "payment": 2, "order-orchestrator": 0}
    async with open_shop(tmp_path, replicas, CHUNK_MESSAGES="5") as shop:
        users = {f"race-{number}": f"user_{number}" for number in range(ORDERS)}
        await shop.stock_up(
            put_product("P001", quantity=2 * ORDERS, price=1_000),
            put_campaign("RACE", limit=ORDERS, fixed=200),
            *[top_up_wallet(user, amount=1_800) for user in users.values()],
            *[issue_coupon("RACE", user_id=user) for user in users.values()],
        )
        won = {}
        for step in STEPS[:PIVOT]:
            records = []
            for number, (order_id, user) in enumerate(users.items()):
                saga = saga_of(order_id, user)
                assert step.undo is not None
                # any key will do: the body rules
                pair = [
                    Record(step.undo(saga).to_bytes(), f"{order_id}-undo"),
                    Record(step.do(saga).to_bytes(), f"{order_id}-do"),
                ]
                records += pair if number % 2 else pair[::-1]
            await shop.topics.publish(step.topic, records)
            won[step.name] = await verdicts(shop, step.topic, set(users))
        assert all(0 < first < ORDERS for first in won.values()), won
        await all_is_back(shop)


async def verdicts(shop: Shop, topic: str, orders: set[str]) -> int:
    """Checks that the two answers of each order fit; how often the `do` came first."""
    replies = topic.replace("commands", "replies")
    found = await shop.topics.wait_for(
        replies, lambda record: record.json["orderId"] in orders, count=2 * ORDERS, within_s=90
    )
    said: dict[str, dict[str, Any]] = {order_id: {} for order_id in orders}
    for record in found:
        body = record.json
        said[body["orderId"]][body["commandId"].rpartition(":")[2]] = body
    won = 0
    for order_id, answers in said.items():
        do, undo = answers["do"], answers["undo"]
        done = do["type"] in WON
        assert undo["effect"] == ("undone" if done else "nothing"), (order_id, answers)
        if not done:
            assert do["reason"].startswith("already_"), do
        won += done
    return won


async def all_is_back(shop: Shop) -> None:
    """Units, coupons and money are where they were."""
    product = "SELECT available FROM stock.product WHERE product_id = 'P001'"
    assert await shop.value(product) == 2 * ORDERS
    assert await shop.value("SELECT count(*) FROM coupon.coupon WHERE state <> 'ISSUED'") == 0
    assert await shop.value("SELECT array_agg(DISTINCT balance) FROM payment.wallet") == [1_800]
