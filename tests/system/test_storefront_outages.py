"""The storefront while something is slow or away, and while it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shared.testing.signals import eventually
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.testing.proxy import Proxy
    from shared.testing.storefronts import Storefront

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

    Start = Callable[..., Awaitable[Storefront]]

WITHIN_S = 90.0
PUBLISH_WITHIN_S = 2
CLIENTS = 12


@pytest.fixture
async def hasty(storefront: Start) -> Storefront:
    """Waits a second for an outcome."""
    return await storefront(ANSWER_WITHIN_S="1")


@pytest.fixture
async def ann(hasty: Storefront, user: str) -> AsyncIterator[Shopper]:
    """A user with money."""
    async with hasty.http() as client:
        yield Shopper(client, user)


async def becomes(shopper: Shopper, order_id: str, status: str) -> dict[str, Any]:
    """The order once it has this status."""
    answer = await eventually(
        lambda: shopper.show(order_id),
        within_s=WITHIN_S,
        describe=f"{order_id} is {status}",
        accept=lambda answer: answer.status_code == 200 and answer.json()["status"] == status,
    )
    document: dict[str, Any] = answer.json()
    return document


def under_way(answer: httpx.Response) -> str:
    """The order's id in a 202, which says where to ask."""
    assert answer.status_code == 202, answer.text
    order_id: str = answer.json()["orderId"]
    assert answer.headers["location"] == f"/api/orders/{order_id}"
    assert int(answer.headers["retry-after"]) >= 1
    return order_id


async def test_what_takes_longer_is_answered_with_where_to_ask(shop: Shop, ann: Shopper) -> None:
    stock, payment = shop.instances["stock-0"], shop.instances["payment-0"]
    stock.freeze()
    answer = await ann.place()
    order_id = under_way(answer)
    shown = await ann.client.get(answer.headers["location"])
    assert (shown.status_code, shown.json()["status"]) == (200, "PENDING")
    keyed = under_way(await ann.place({"P002": 1}, key="a-key"))
    stock.thaw()
    await becomes(ann, order_id, "AWAITING_PAYMENT")
    await becomes(ann, keyed, "AWAITING_PAYMENT")
    assert (await ann.place({"P002": 1}, key="a-key")).json()["orderId"] == keyed
    payment.freeze()
    assert under_way(await ann.pay(order_id)) == order_id
    assert under_way(await ann.pay(keyed, key="a-key")) == keyed
    payment.thaw()
    await becomes(ann, order_id, "CONFIRMED")
    await becomes(ann, keyed, "CONFIRMED")
    assert (await ann.pay(keyed, key="a-key")).status_code == 200


async def test_while_the_orchestrator_is_away_orders_are_kept(
    shop: Shop, hasty: Storefront, ann: Shopper
) -> None:
    known = await ann.placed()
    shop.orchestrator.freeze()
    order_ids = [under_way(await ann.place()), under_way(await ann.place(key="a-key"))]
    for answer in (await ann.show(order_ids[0]), await ann.show("o-nothing")):
        assert (answer.status_code, answer.json()["reason"]) == (503, "orchestrator_away")
        assert int(answer.headers["retry-after"]) >= 1
    under_way(await ann.pay(known))
    assert (await ann.cart()).status_code == 200
    assert (await hasty.readiness())["ready"]
    shop.orchestrator.thaw()
    for order_id in order_ids:
        await becomes(ann, order_id, "AWAITING_PAYMENT")
    await becomes(ann, known, "CONFIRMED")


async def test_before_the_orchestrator_has_read_it_an_order_is_there_already(
    shop: Shop, ann: Shopper
) -> None:
    await ann.placed()  # so that the peer's connection is open
    await shop.orchestrator.kill()
    order_id = under_way(await ann.place())
    paid = under_way(await ann.pay(order_id))
    assert paid == order_id
    await shop.orchestrator.start()
    await becomes(ann, order_id, "CONFIRMED")


async def test_without_redis_orders_go_on_and_carts_wait(
    shop: Shop, storefront: Start, valkey_proxy: Proxy, user: str
) -> None:
    front = await storefront(REDIS_URL=valkey_proxy.through(shop.redis_url))
    async with front.http() as client:
        ann = Shopper(client, user)
        assert (await ann.post("/api/cart", productId="P001", quantity=1)).status_code == 200
        await valkey_proxy.refuse()
        valkey_proxy.cut()
        for answer in (
            await ann.cart(),
            await ann.post("/api/cart", productId="P001", quantity=2),
            await client.delete("/api/cart", params={"userId": user}),
        ):
            assert (answer.status_code, answer.json()["reason"]) == (503, "redis_away")
        order_id = await ann.placed()
        assert (await ann.pay(order_id)).json()["status"] == "CONFIRMED"
        assert (await client.get("/api/products")).status_code == 200
        await valkey_proxy.heal()
        again = await eventually(
            ann.cart, describe="the cart is there", accept=lambda answer: answer.status_code == 200
        )
        assert len(again.json()["items"]) == 1
    async with front.admin() as admin:
        assert "storefront_unpaid_unbounded_total 1.0" in (await admin.get("/metrics")).text


async def test_f41_without_a_broker_no_order_is_promised(
    shop: Shop, storefront: Start, kafka_proxy: Proxy, user: str
) -> None:
    front = await storefront(
        KAFKA_BOOTSTRAP_SERVERS=kafka_proxy.address, PUBLISH_TIMEOUT_S=str(PUBLISH_WITHIN_S)
    )
    async with front.http() as client:
        ann = Shopper(client, user)
        await ann.placed(key="before")
        await kafka_proxy.refuse()
        kafka_proxy.cut()
        keys = [f"k-{number}" for number in range(4)]
        answers = await asyncio.gather(
            *(ann.place(key=key) for key in keys), ann.post("/api/coupons/WELCOME10/issue")
        )
        for answer in answers:
            assert answer.status_code == 503, answer.text
            assert answer.json()["reason"] in ("broker_away", "not_sent")
            assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/api/products")).status_code == 200
        assert (await ann.cart()).status_code == 200
        await kafka_proxy.heal()

        async def placed(key: str) -> httpx.Response:
            return await eventually(
                lambda: ann.place(key=key),
                within_s=WITHIN_S,
                describe="the order is there",
                accept=lambda answer: answer.status_code == 200,
            )

        ids = {(await placed(key)).json()["orderId"] for key in keys}
    count = "SELECT count(*) FROM orders.saga WHERE user_id = $1"
    assert await shop.value(count, user) == 1 + len(ids) == 1 + len(keys)


async def test_f40_whoever_spreads_the_load_loses_no_request(shop: Shop, user: str) -> None:
    """Readiness ends first, then what is under way is answered; nobody meets a closed port."""
    front = shop.storefront(90, DRAIN_S="3", ANSWER_WITHIN_S="30")
    try:
        await front.start()
        answered: list[httpx.Response] = []
        leave = asyncio.Event()
        numbers = itertools.count()

        async def shopping() -> None:
            async with front.http() as client:
                while not leave.is_set():
                    somebody = Shopper(client, f"{user}-{next(numbers)}")
                    answered.append(await somebody.place())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(shopping())
            await eventually(lambda: len(answered) > 3 * CLIENTS, within_s=WITHIN_S)
            stopping = asyncio.create_task(front.terminate())
            async with front.admin() as admin:
                answer = await eventually(
                    lambda: admin.get("/readyz"), accept=lambda answer: answer.status_code == 503
                )
            assert answer.json()["checks"]["http"] == "it is told to stop"
            count = len(answered)
            await eventually(lambda: len(answered) > count, describe="it still serves")
            leave.set()
        assert await stopping == 0
        assert {answer.status_code for answer in answered} <= {200, 202}
    finally:
        await front.discard()
    for answer in answered:
        await shop.until(answer.json()["orderId"], state="AWAITING_PAYMENT")


async def test_f40_what_is_under_way_is_answered_before_it_ends(shop: Shop, user: str) -> None:
    front = shop.storefront(91)
    stock = shop.instances["stock-0"]
    try:
        await front.start()
        async with front.http() as client:
            ann = Shopper(client, user)
            assert (await ann.cart()).status_code == 200
            stock.freeze()
            asked = [asyncio.create_task(ann.place()) for _ in range(5)]
            sagas = "SELECT count(*) FROM orders.saga WHERE user_id = $1"
            await eventually(
                lambda: shop.value(sagas, user), within_s=WITHIN_S, accept=lambda found: found == 5
            )
            assert await front.terminate() == 0
            ids = [under_way(await one) for one in asked]
            with pytest.raises(httpx.ConnectError):
                await ann.cart()
    finally:
        stock.thaw()
        await front.discard()
    for order_id in ids:
        await shop.until(order_id, state="AWAITING_PAYMENT")


async def test_a_storefront_waits_for_its_broker(shop: Shop, kafka_proxy: Proxy) -> None:
    front = shop.storefront(92, KAFKA_BOOTSTRAP_SERVERS=kafka_proxy.address)
    await kafka_proxy.refuse()
    try:
        front.spawn()
        answer = await eventually(front.readiness, within_s=WITHIN_S)
        assert answer == {"ready": False, "checks": {"http": "it has not heard of the broker yet"}}
        with contextlib.suppress(httpx.HTTPError):
            async with front.http() as client:
                await client.get("/api/products")
                pytest.fail("it serves who could not hear an answer")
        await kafka_proxy.heal()
        await front.wait_ready(within_s=WITHIN_S)
    finally:
        await front.discard()
