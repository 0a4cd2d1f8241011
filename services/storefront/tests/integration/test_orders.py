"""Orders over HTTP before an orchestrator that answers as a test says, on a Valkey."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from shared.contracts.order_document import StoredOrder, StoredOrders
from shared.contracts.order_parts import OrderStatus
from shared.contracts.orders import (
    CancelOrder,
    OrderAwaitingPayment,
    OrderConfirmed,
    PayOrder,
    PlaceOrder,
)
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.redis import Batched
from shared.testing.serving import served
from shared.testing.signals import Gate, eventually
from shared.testing.storefronts import Shopper
from storefront.admission import Admission
from storefront.api import application
from storefront.asking import Desk
from storefront.bodies import Bodies
from storefront.cart_api import CartApi
from storefront.identity import Identity
from storefront.listening import Listeners
from storefront.main import SCRIPTS, _order_of
from storefront.orders_api import OrdersApi
from storefront.patience import Patience
from storefront.peers import Orders, Peer
from storefront.settings import Settings
from storefront.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from shared.contracts.base import Message
    from shared.kafka.publisher import Record
    from shared.testing.valkey import Valkey

    Command = PlaceOrder | PayOrder | CancelOrder

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
COMMANDS: dict[str, type[Command]] = {
    "PlaceOrder": PlaceOrder,
    "PayOrder": PayOrder,
    "CancelOrder": CancelOrder,
}
UNPAID_AT_MOST = 2
KEEP_S = 960
UNPAID = "storefront:unpaid:ann"


class Orchestrator:
    """Takes commands for the broker, and answers them and what it is asked as a test says."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.stored: dict[str, StoredOrder] = {}
        self.answers: Callable[[Command], list[Message]] = lambda command: []
        self.heard: Listeners = Listeners("orders.events.v1", _order_of)
        self.gate: Gate | None = None
        self.away = False

    async def publish(self, record: Record) -> None:
        model = COMMANDS[dict(record.headers)["ce_type"].decode()]
        command = model.model_validate_json(record.value or b"")
        self.commands.append(command)
        self.say(*self.answers(command))

    def say(self, *events: Message) -> None:
        for event in events:
            key = str(_order_of(event)).encode()
            heard: Any = ConsumerRecord("t", 0, 0, 0, 0, key, event.to_bytes(), None, 0, 0, ())  # type: ignore[arg-type]
            self.heard.take([heard])

    def store(self, order: PlaceOrder, status: OrderStatus) -> None:
        self.stored[order.order_id] = StoredOrder(
            order_id=order.order_id, user_id=order.user_id, status=status, version=2,
            fingerprint=order.fingerprint().hex(),
        )  # fmt: skip

    async def read(self, request: Request) -> Response:
        if self.gate is not None:
            await self.gate.stop()
        if self.away:
            return Response(status_code=503)
        found = [self.stored[one] for one in request.query_params.getlist("id")
                 if one in self.stored]  # fmt: skip
        orders = StoredOrders(orders=tuple(found))
        return Response(orders.model_dump_json(by_alias=True, exclude_none=True))


def awaiting(order_id: str) -> OrderAwaitingPayment:
    return OrderAwaitingPayment(
        order_id=order_id, user_id="ann", version=2, at=NOW, items=(), total=5, discount=0,
        currency="KRW", pay_by=NOW,
    )  # fmt: skip


def confirmed(order_id: str) -> OrderConfirmed:
    return OrderConfirmed(
        order_id=order_id, user_id="ann", version=3, at=NOW, items=(), total=5, discount=0,
        currency="KRW",
    )  # fmt: skip


def refused(command: Command, reason: CommandRefusal) -> CommandRefused:
    return CommandRefused(
        command_id=getattr(command, command.identity), command=command.type,
        key=command.order_id, reason=reason, detail="why",
    )  # fmt: skip


class Front:
    """A storefront without its process."""

    def __init__(
        self, redis_url: str, orchestrator: Orchestrator, port: int, answer_within_s: float
    ) -> None:
        self.redis = Batched(redis_url, "storefront", SCRIPTS, retries=0)
        self.peer = Peer("orchestrator", f"http://127.0.0.1:{port}")
        self.desk = Desk(
            orchestrator.heard, orchestrator, Orders(self.peer), Patience(answer_within_s)  # type: ignore[arg-type]
        )  # fmt: skip
        store = Store(
            self.redis, cart_keep_s=60, cart_lines_at_most=9, unpaid_keep_s=KEEP_S,
            unpaid_at_most=UNPAID_AT_MOST,
        )  # fmt: skip
        settings = Settings(
            kafka_bootstrap_servers="k", instance_id="storefront-0", stock_url="http://s",
            orchestrator_url="http://o", identity="open",
        )  # fmt: skip
        identity, bodies = Identity(settings), Bodies(bytes_at_most=65_536, within_s=10)
        orders = OrdersApi(self.desk, store, bodies, identity, Admission(100))
        app = application([*orders.routes(), *CartApi(store, bodies, identity).routes()])
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://storefront"
        )
        self.ann = Shopper(self.http, "ann")

    async def close(self) -> None:
        await self.http.aclose()
        await self.peer.close()
        await self.redis.close()


class World:
    """Storefronts before one orchestrator, beside one Valkey."""

    def __init__(self, redis_url: str, orchestrator: Orchestrator, port: int) -> None:
        self.redis_url = redis_url
        self.orchestrator = orchestrator
        self._port = port
        self.closing = AsyncExitStack()

    def front(self, redis_url: str | None = None, answer_within_s: float = 60.0) -> Front:
        front = Front(redis_url or self.redis_url, self.orchestrator, self._port, answer_within_s)
        self.closing.push_async_callback(front.close)
        return front


@pytest.fixture
async def world(valkey: Valkey) -> AsyncIterator[World]:
    orchestrator = Orchestrator()
    async with served(Starlette(routes=[Route("/orders", orchestrator.read)])) as port:
        world = World(valkey.url, orchestrator, port)
        async with world.closing:
            yield world


@pytest.fixture
def orchestrator(world: World) -> Orchestrator:
    return world.orchestrator


@pytest.fixture
def ann(world: World) -> Shopper:
    return world.front().ann


def holds(orchestrator: Orchestrator) -> Callable[[Command], list[Message]]:
    """Stores orders that wait for their payment, and says so."""

    def hold(command: Command) -> list[Message]:
        assert isinstance(command, PlaceOrder)
        orchestrator.store(command, OrderStatus.AWAITING_PAYMENT)
        return [awaiting(command.order_id)]

    return hold


class TestKeys:
    async def test_f29_another_body_is_never_told_of_the_first_ones_order(
        self, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        """The first is read by the orchestrator after the second has looked."""

        def first_comes_before(command: Command) -> list[Message]:
            assert isinstance(command, PlaceOrder)
            first = command.model_copy(update={"coupon_id": "ANOTHER"})
            orchestrator.store(first, OrderStatus.AWAITING_PAYMENT)
            return [awaiting(first.order_id)]

        orchestrator.answers = first_comes_before
        answer = await ann.place(key="a-key")
        assert (answer.status_code, answer.json()["reason"]) == (422, "order_id_reused")

    async def test_f29_nor_where_nothing_was_heard(
        self, world: World, orchestrator: Orchestrator
    ) -> None:
        def first_comes_before(command: Command) -> list[Message]:
            assert isinstance(command, PlaceOrder)
            first = command.model_copy(update={"coupon_id": "ANOTHER"})
            orchestrator.store(first, OrderStatus.AWAITING_PAYMENT)
            return []

        orchestrator.answers = first_comes_before
        answer = await world.front(answer_within_s=0.01).ann.place(key="a-key")
        assert (answer.status_code, answer.json()["reason"]) == (422, "order_id_reused")

    async def test_f29_what_can_not_be_compared_is_not_said(
        self, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        orchestrator.away = True
        orchestrator.answers = lambda command: [awaiting(command.order_id)]
        answer = await ann.place(key="a-key")
        assert answer.status_code == 202
        orchestrator.answers = lambda command: [refused(command, CommandRefusal.ORDER_ID_REUSED)]
        answer = await ann.place(key="another-key")
        assert (answer.status_code, answer.json()["reason"]) == (409, "in_flight")

    async def test_f29_the_same_body_is_answered(
        self, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        orchestrator.answers = holds(orchestrator)
        assert [(await ann.place(key="a-key")).status_code for _ in range(2)] == [200, 200]
        assert len(orchestrator.commands) == 1

    async def test_f29_two_bodies_under_a_payments_key_at_once(
        self, world: World, orchestrator: Orchestrator
    ) -> None:
        """Neither is told that its payment will not be, since it may: once the order has its
        outcome, each hears its own."""
        one, two = world.front().ann, world.front().ann
        orchestrator.answers = holds(orchestrator)
        order_id = await one.placed()

        def reused(command: Command) -> list[Message]:
            other = next(each for each in orchestrator.commands if isinstance(each, PayOrder))
            return [] if other == command else [refused(command, CommandRefusal.COMMAND_ID_REUSED)]

        orchestrator.answers = reused
        first = asyncio.create_task(one.pay(order_id, key="k"))
        await eventually(lambda: len(orchestrator.commands) == 2, describe="the first is asked")
        answers = [await two.pay(order_id, key="k", payment={"method": "gateway"}), await first]
        for answer in answers:
            assert (answer.status_code, answer.json()["reason"]) == (409, "in_flight")
        placed = orchestrator.commands[0]
        assert isinstance(placed, PlaceOrder)
        orchestrator.store(placed, OrderStatus.CONFIRMED)
        # what it remembers is older than the outcome, once
        again = [await two.pay(order_id, key="k", payment={"method": "gateway"}) for _ in range(2)]
        assert [answer.json()["reason"] for answer in again] == ["in_flight", "command_id_reused"]


class TestContent:
    async def test_what_another_request_asks_for_has_another_id(
        self, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        orchestrator.answers = holds(orchestrator)
        order_id = await ann.placed()
        orchestrator.answers = lambda command: [refused(command, CommandRefusal.TOO_LATE)]
        for payment in ({"method": "wallet"}, {"method": "gateway"}, {"method": "wallet"}):
            await ann.pay(order_id, payment=payment)
        for reason in ("one", "two", "one"):
            await ann.cancel(order_id, reason=reason)
        ids = [getattr(command, "command_id", "") for command in orchestrator.commands[1:]]
        assert (ids[0], ids[3]) == (ids[2], ids[5])
        assert len(set(ids)) == 4

    async def test_what_was_paid_elsewhere_is_paid(
        self, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        orchestrator.answers = holds(orchestrator)
        order_id = await ann.placed()
        orchestrator.answers = lambda command: [refused(command, CommandRefusal.ALREADY_PAID)]
        answer = await ann.pay(order_id)
        assert (answer.status_code, answer.json()["reason"]) == (409, "already_paid")
        placed = orchestrator.commands[0]
        assert isinstance(placed, PlaceOrder)
        orchestrator.store(placed, OrderStatus.CONFIRMED)
        answer = await ann.pay(order_id)
        assert (answer.status_code, answer.json()["status"]) == (200, "CONFIRMED")


async def test_little_is_remembered_of_an_order(world: World, orchestrator: Orchestrator) -> None:
    front = world.front()
    orchestrator.answers = holds(orchestrator)
    order_id = await front.ann.placed(reference="r" * 256)
    assert [tuple(known) for known in front.desk._known.values()] == [
        ("ann", OrderStatus.AWAITING_PAYMENT, 2)
    ]
    orchestrator.answers = lambda command: [confirmed(command.order_id)]
    assert (await front.ann.pay(order_id)).json()["total"] == 5


async def test_all_time_limits_are_one(
    world: World, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orchestrator that never answers is asked for what is left: not for the peer's own time
    before and after."""
    monkeypatch.setattr("storefront.asking.LOOK_S", 0.01)
    monkeypatch.setattr("storefront.peers.ANSWER_WITHIN_S", 3_600.0)
    orchestrator.gate = Gate()
    try:
        answer = await world.front(answer_within_s=0.05).ann.place(key="a-key")
    finally:
        orchestrator.gate.open()
    assert answer.status_code == 202


class TestUnpaid:
    async def test_what_was_refused_as_a_command_keeps_no_place(
        self, world: World, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        reasons = {CommandRefusal.INVALID_COMMAND: 400, CommandRefusal.TEMPORARILY_UNAVAILABLE: 503}
        for reason, status in reasons.items():
            orchestrator.answers = lambda command, reason=reason: [refused(command, reason)]  # type: ignore[misc]
            for _ in range(UNPAID_AT_MOST + 1):
                assert (await ann.place()).status_code == status
        async with Redis.from_url(world.redis_url) as redis:
            assert await redis.zcard(UNPAID) == 0

    async def test_another_clock_empties_nobodys_set(
        self, orchestrator: Orchestrator, ann: Shopper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orchestrator.answers = holds(orchestrator)
        for _ in range(UNPAID_AT_MOST):
            await ann.placed()
        ahead_s = time.time() + timedelta(hours=1).total_seconds()
        monkeypatch.setattr("time.time", lambda: ahead_s)
        assert (await ann.place()).status_code == 429

    async def test_the_count_and_its_ages_come_together(
        self, world: World, orchestrator: Orchestrator, ann: Shopper
    ) -> None:
        """Of two that were never stored the old one is over."""
        async with Redis.from_url(world.redis_url) as redis:
            now_s, _ = await redis.time()
            forgotten_ms = (now_s + KEEP_S) * 1_000
            await redis.zadd(UNPAID, {"o-new": forgotten_ms, "o-old": forgotten_ms - 200_000})
            orchestrator.answers = holds(orchestrator)
            order_id = await ann.placed()
            left = {one.decode() for one in await redis.zrange(UNPAID, 0, -1)}
        assert left == {"o-new", order_id}
        refusal = await ann.place()
        assert (refusal.status_code, refusal.json()["detail"].split(";")[0]) == (
            429, "ann has 2 orders that are not paid",
        )  # fmt: skip


async def test_a_cart_that_can_not_be_renewed_is_shown(world: World, ann: Shopper) -> None:
    await ann.post("/api/cart", productId="P001", quantity=2)
    async with Redis.from_url(world.redis_url) as redis:
        await redis.execute_command(
            "ACL", "SETUSER", "reader", "on", ">x", "~*", "+@all", "-expire"
        )
        as_reader = world.redis_url.replace("redis://", "redis://reader:x@")
        try:
            shown = await world.front(as_reader).ann.cart()
        finally:
            await redis.execute_command("ACL", "DELUSER", "reader")
    assert [item["quantity"] for item in shown.json()["items"]] == [2]
