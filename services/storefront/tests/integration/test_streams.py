"""Server-sent events over a real port, before a stock and an orchestrator that are told what to
say."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared import serving
from shared.contracts.order_parts import OrderStatus, OutcomeReason
from shared.contracts.orders import OrderAccepted, OrderAwaitingPayment, OrderCancelled
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.testing.heard import AT, heard, level, level_heard
from shared.testing.serving import served
from shared.testing.signals import Gate, eventually
from storefront import streams, watching
from storefront.api import application
from storefront.asking import Desk
from storefront.feed import Feed
from storefront.identity import Caller
from storefront.listening import Listeners
from storefront.patience import Patience
from storefront.peers import Orders, Peer
from storefront.streams import Streams
from storefront.streams_api import StreamsApi
from storefront.watching import ALL_AT_MOST, NAMED_AT_MOST, LevelsTold, OrderTold, Snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.requests import Request
    from starlette.types import Message as Sent

    from shared.contracts.base import Message

ORDER, OWNER = "o-1", "user_1"
PATIENCE_S = 10.0
PATIENCE = aiohttp.ClientTimeout(sock_read=PATIENCE_S)
"""Shorter than the time to a heartbeat."""
ROUNDS = 7


class Event(NamedTuple):
    name: str
    id: str
    data: Any


class Reader:
    """A client that reads events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> Event | None:
        """The next event, comments left out; None where there is none any more."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            async for line in self.answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    return Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
        return None

    async def versions(self, count: int) -> list[str]:
        """The ids of so many events."""
        return [event.id for _ in range(count) if (event := await self.next())]

    async def comment(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            return await self.answer.content.readline() == b": \n"


class Rig:
    """A storefront of streams alone."""

    def __init__(self, peers_port: int) -> None:
        self.levels = {"P001": level("P001", 1, 9), "P002": level("P002", 1, 9)}
        self.following: str | None = None
        self.order: dict[str, Any] | None = None
        self.gate: Gate | None = None
        self.status = 200
        self.nonsense = False
        self.asked = 0
        self.feed = Feed()
        self.feed.follow()
        self.orders = Listeners("orders.events.v1", lambda event: getattr(event, "order_id", ORDER))
        self.peer = Peer("stock", f"http://127.0.0.1:{peers_port}")
        self.streams = Streams(3)
        desk = Desk(self.orders, None, Orders(self.peer), Patience(1.0))  # type: ignore[arg-type]
        self.app = application(
                StreamsApi(
                    self.streams, LevelsTold(self.feed, self.peer), OrderTold(self.orders, desk),
                    self,  # type: ignorearg-type]
                ).routes()

        )  # fmt: skip
        self.port = 0

    def caller(self, request: Request) -> Caller:
        return Caller(request.headers.get("x-user"))

    async def answer_levels(self, request: Request) -> Response:
        self.asked += 1
        after = request.query_params.get("after", "")
        ids = request.query_params.getlist("id") or [one for one in self.levels if one > after]
        found = [self.levels[one].model_dump(mode="json") for one in ids if one in self.levels]
        return await self._answer({"levels": found, "next": self.following})

    async def answer_orders(self, request: Request) -> Response:
        return await self._answer({"orders": [self.order] if self.order else []})

    async def _answer(self, content: Any) -> Response:
        answer = JSONResponse(content, self.status)
        if self.gate is not None:
            await self.gate.stop()
        return Response(b'{"\xff') if self.nonsense else answer

    def stands(self, version: int, status: OrderStatus) -> None:
        """The orchestrator has it so."""
        self.order = {
            "orderId": ORDER, "userId": OWNER, "status": status, "version": version,
            "fingerprint": "0" * 32,
        }  # fmt: skip

    def hear(self, *events: Message) -> None:
        self.orders.take([heard("orders.events.v1", event) for event in events])

    @asynccontextmanager
    async def opened(self, path: str, **headers: str) -> AsyncIterator[Reader]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession(timeout=PATIENCE) as session,
            session.get(url, headers={name.replace("_", "-"): one for name, one in headers.items()})
            as answer,
        ):  # fmt: skip
            yield Reader(answer)

    async def refused(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.opened(path, **headers) as reader:
            problem = await reader.answer.json(content_type="application/problem+json")
            if reader.answer.status == 503:
                assert reader.answer.headers["retry-after"] == "1"
            return reader.answer.status, problem["reason"]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig: Rig | None = None

    async def levels(request: Request) -> Response:
        assert rig is not None
        return await rig.answer_levels(request)

    async def orders(request: Request) -> Response:
        assert rig is not None
        return await rig.answer_orders(request)

    peers = Starlette(routes=[Route("/levels", levels), Route("/orders", orders)])
    async with served(peers) as peers_port:
        rig = Rig(peers_port)
        async with served(rig.app) as rig.port:
            yield rig
            await rig.streams.end()
        await rig.peer.close()


def accepted(version: int = 1) -> OrderAccepted:
    return OrderAccepted(order_id=ORDER, version=version, at=AT, user_id=OWNER)


def awaiting(version: int = 2) -> OrderAwaitingPayment:
    return OrderAwaitingPayment(
        order_id=ORDER, version=version, at=AT, user_id=OWNER, items=(), total=1, discount=0,
        currency="KRW", pay_by=AT,
    )  # fmt: skip


def cancelled(version: int = 3) -> OrderCancelled:
    return OrderCancelled(
        order_id=ORDER, version=version, at=AT, user_id=OWNER,
        reason=OutcomeReason.CANCELLED_BY_USER,
    )  # fmt: skip


STOCK = "/api/stock/stream"
PROGRESS = f"/api/orders/{ORDER}/stream"


async def test_levels_are_told_as_they_are_and_whenever_they_move(rig: Rig) -> None:
    async with rig.opened(STOCK) as reader:
        assert reader.answer.headers["content-type"].startswith("text/event-stream")
        first = await reader.next()
        assert first == ("level", "P001:1", json.loads(rig.levels["P001"].to_bytes()))
        assert await reader.versions(1) == ["P002:1"]
        rig.feed.take_levels([level_heard("P002", 1), level_heard("P001", 2)])
        rig.feed.take_levels([level_heard("P003", 1)])
        assert await reader.versions(2) == ["P001:2", "P003:1"]


async def test_what_moves_during_the_snapshot_is_told_once_and_highest(rig: Rig) -> None:
    gate = rig.gate = Gate()

    async def moves() -> None:
        await gate.reached()
        rig.feed.take_levels([level_heard("P001", 7), level_heard("P002", 1)])
        gate.open()

    moving = asyncio.create_task(moves())
    async with rig.opened(f"{STOCK}?productId=P002&productId=P001") as reader:
        assert await reader.versions(2) == ["P001:7", "P002:1"]
        rig.feed.take_levels([level_heard("P001", 6), level_heard("P002", 2)])
        assert await reader.versions(1) == ["P002:2"]
    await moving


async def test_only_what_is_named_is_told_also_before_it_is_there(rig: Rig) -> None:
    async with rig.opened(f"{STOCK}?productId=P001&productId=P009") as reader:
        assert await reader.versions(1) == ["P001:1"]
        rig.feed.take_levels([level_heard("P002", 2), level_heard("P009", 1)])
        assert await reader.versions(1) == ["P009:1"]


async def test_those_who_come_together_share_a_snapshot(rig: Rig) -> None:
    async with rig.opened(STOCK) as one, rig.opened(STOCK) as other:
        assert await one.versions(2) == await other.versions(2) == ["P001:1", "P002:1"]
        rig.feed.take_levels([level_heard("P001", 2)])
        async with rig.opened(STOCK) as late:
            assert await late.versions(2) == ["P001:2", "P002:1"]
    assert rig.asked == 1


async def test_who_reads_slowly_hears_the_newest_alone(rig: Rig) -> None:
    told = LevelsTold(rig.feed, rig.peer).events(("P001",))
    await anext(told)
    for version in range(2, 1_002):
        rig.feed.take_levels([level_heard("P001", version)])
    events = await anext(told)
    assert events.count(b"event: level\n") == 1
    assert b"id: P001:1001\n" in events
    await told.aclose()


@pytest.mark.parametrize("path", [STOCK, f"{STOCK}?productId=P404", PROGRESS])
async def test_silence_is_broken_by_a_heartbeat(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(watching, "HEARTBEAT_S", 0.01)
    rig.stands(1, OrderStatus.PENDING)
    rig.levels = {}
    async with rig.opened(path, last_event_id="1") as reader:
        assert await reader.comment()


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Where streams of levels rest between two writes."""
    gate = Gate()

    async def pause(for_s: float) -> None:
        assert for_s == watching.TELL_EVERY_S
        await gate.stop()

    monkeypatch.setattr(watching, "_pause", pause)
    return gate


async def test_what_is_told_at_first_is_not_kept(rig: Rig, paused: Gate) -> None:
    told = LevelsTold(rig.feed, rig.peer).events(())
    assert b"P001:1" in await anext(told)
    following = asyncio.ensure_future(anext(told))
    await paused.reached()
    kept = told.ag_frame.f_locals.values()
    assert [one for one in kept if isinstance(one, bytes | Snapshot)] == []
    assert [one for one in kept if isinstance(one, dict)] == [{"P001": 1, "P002": 1}]
    following.cancel()


async def test_a_stream_does_not_keep_what_it_sent(rig: Rig) -> None:
    events = [b"%d" % number for number in (1_000, 1_001)]
    before = [sys.getrefcount(one) for one in events]
    sent = 0

    async def told() -> AsyncGenerator[bytes]:
        for number in (0, 1):
            yield events[number]
        await asyncio.Event().wait()

    async def send(message: Sent) -> None:
        nonlocal sent
        sent += bool(message.get("body"))

    async def receive() -> Sent:
        await asyncio.Event().wait()
        return {}

    stream = await rig.streams.answer("levels", told())
    answering = asyncio.create_task(stream({}, receive, send))
    await eventually(lambda: sent == len(events))
    assert [sys.getrefcount(one) for one in events] == before
    answering.cancel()


async def test_there_are_fewer_streams_of_all_products(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STREAMS_OF_ALL_AT_MOST", 1)
    async with rig.opened(STOCK) as reader:
        assert await reader.versions(1) == ["P001:1"]
        assert await rig.refused(STOCK) == (503, "overloaded")
        async with rig.opened(f"{STOCK}?productId=P002") as other:
            assert await other.versions(1) == ["P002:1"]

    async def again() -> int:
        async with rig.opened(STOCK) as reader:
            return reader.answer.status

    await eventually(again, accept=lambda status: status == 200)


async def test_what_moves_between_two_writes_is_told_together(rig: Rig, paused: Gate) -> None:
    told = LevelsTold(rig.feed, rig.peer).events(())
    await anext(told)
    following = asyncio.ensure_future(anext(told))
    await paused.reached()
    for version in (2, 3):
        rig.feed.take_levels([level_heard(one, version) for one in ("P001", "P002")])
        await asyncio.sleep(0)
    paused.open()
    assert (await following).count(b"event: level\n") == 2
    await told.aclose()


async def test_there_are_so_many_streams_at_most(rig: Rig) -> None:
    async with rig.opened(STOCK), rig.opened(STOCK):
        async with rig.opened(STOCK) as last:
            assert await rig.refused(STOCK) == (503, "overloaded")
            assert await last.versions(2) == ["P001:1", "P002:1"]

        async def again() -> int:
            async with rig.opened(STOCK) as reader:
                return reader.answer.status

        # the place of one that has gone is free once that is noticed
        await eventually(again, accept=lambda status: status == 200)


@pytest.mark.parametrize(
    ("query", "following", "status", "answer"),
    [
        ("?productId=a%20b", None, 200, (400, "invalid_request")),
        ("?productId=", None, 200, (400, "invalid_request")),
        ("?" + "&".join(f"productId=P{n}" for n in range(NAMED_AT_MOST + 1)), None, 200,
         (400, "invalid_request")),
        ("", "P001", 200, (400, "invalid_request")),
        ("", None, 503, (503, "stock_away")),
        ("", None, 404, (503, "stock_away")),
    ],
)  # fmt: skip
async def test_what_can_t_be_told_is_a_problem_and_holds_no_place(
    rig: Rig, query: str, following: str | None, status: int, answer: tuple[int, str]
) -> None:
    rig.following, rig.status = following, status
    for _ in range(5):
        assert await rig.refused(f"{STOCK}{query}") == answer
    assert ALL_AT_MOST >= NAMED_AT_MOST


async def test_as_many_products_as_there_may_be_are_told(rig: Rig) -> None:
    """The page is full then, and says that there may be more."""
    rig.following = "P002"
    async with rig.opened(STOCK) as reader:
        assert await reader.versions(2) == ["P001:1", "P002:1"]


async def test_what_nobody_understands_is_a_problem(rig: Rig) -> None:
    rig.nonsense = True
    assert await rig.refused(STOCK) == (503, "stock_away")
    assert await rig.refused(PROGRESS) == (503, "stock_away")


@pytest.mark.parametrize("path", [STOCK, PROGRESS])
async def test_who_asks_for_the_head_alone_opens_no_stream(rig: Rig, path: str) -> None:
    rig.stands(1, OrderStatus.PENDING)
    url = f"http://127.0.0.1:{rig.port}{path}"
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        for _ in range(5):
            async with asyncio.timeout(PATIENCE_S), session.head(url) as answer:
                assert answer.status == 200
                assert answer.content_type == "text/event-stream"
    assert rig.asked == 0
    assert streams.STREAMS.labels("levels")._value.get() == 0
    assert streams.STREAMS.labels("order")._value.get() == 0


async def test_an_order_whose_events_were_missed_is_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the orchestrator didn't answer the first time."""
    monkeypatch.setattr(watching, "HEARTBEAT_S", 0.01)
    rig.stands(1, OrderStatus.PENDING)
    async with rig.opened(PROGRESS) as reader:
        assert await reader.versions(1) == ["1"]
        rig.status = 503
        assert await reader.comment()
        rig.stands(3, OrderStatus.CANCELLED)
        rig.status = 200
        assert await reader.versions(9) == ["3"]


async def test_an_order_is_told_as_it_is_and_on_to_its_outcome(rig: Rig) -> None:
    rig.stands(1, OrderStatus.PENDING)
    async with rig.opened(PROGRESS, x_user=OWNER) as reader:
        first = await reader.next()
        assert first is not None
        assert (first.name, first.id) == ("order", "1")
        assert first.data == {
            "orderId": ORDER, "userId": OWNER, "status": "PENDING", "version": 1,
        }  # fmt: skip
        refusal = CommandRefused(
            command_id="c-1", command="PayOrder", key=ORDER, detail="no",
            reason=CommandRefusal.TOO_LATE,
        )  # fmt: skip
        rig.hear(accepted(), refusal, awaiting(), awaiting(), cancelled())
        told = [await reader.next() for _ in range(3)]
    assert [event and (event.id, event.data["status"]) for event in told] == [
        ("2", "AWAITING_PAYMENT"), ("3", "CANCELLED"), None,
    ]  # fmt: skip


async def test_what_changes_while_it_is_asked_for_is_told_once(rig: Rig) -> None:
    rig.stands(2, OrderStatus.AWAITING_PAYMENT)
    rig.gate = Gate()
    async with asyncio.TaskGroup() as group:

        async def read() -> list[str]:
            async with rig.opened(PROGRESS) as reader:
                return await reader.versions(9)

        reading = group.create_task(read())
        await rig.gate.reached()
        rig.hear(accepted(), awaiting(), cancelled())
        rig.gate.open()
        assert await reading == ["2", "3"]


async def test_who_comes_again_hears_what_is_newer(rig: Rig) -> None:
    rig.stands(2, OrderStatus.AWAITING_PAYMENT)
    async with rig.opened(PROGRESS, last_event_id="2") as reader:
        rig.hear(awaiting(), cancelled())
        assert await reader.versions(9) == ["3"]
    rig.stands(3, OrderStatus.CANCELLED)
    async with rig.opened(PROGRESS, last_event_id="2") as reader:
        assert await reader.versions(9) == ["3"]
    async with rig.opened(PROGRESS, last_event_id="3") as reader:
        assert (reader.answer.status, await reader.answer.read()) == (204, b"")
    for nonsense in ("-1", "x", "²", "9" * 99):
        async with rig.opened(PROGRESS, last_event_id=nonsense) as reader:
            assert await reader.versions(9) == ["3"]


async def test_f66_another_users_order_is_as_one_that_is_not_there(rig: Rig) -> None:
    assert await rig.refused(PROGRESS, x_user=OWNER) == (404, "unknown")
    rig.stands(1, OrderStatus.PENDING)
    assert await rig.refused(PROGRESS, x_user="user_2") == (404, "unknown")


async def test_a_stream_that_opens_while_the_process_ends_ends_too(rig: Rig) -> None:
    gate = rig.gate = Gate()

    async def read() -> Event | None:
        async with rig.opened(STOCK) as reader:
            return await reader.next()

    reading = asyncio.create_task(read())
    await gate.reached()
    await rig.streams.end()
    gate.open()
    assert await reading == ("bye", "", {})


async def stuck_reader(port: int) -> asyncio.StreamWriter:
    """Watches all levels, and takes nothing."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect(("127.0.0.1", port))
    _, stuck = await asyncio.open_connection(sock=narrow, limit=1)
    stuck.write(f"GET {STOCK} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return stuck


async def test_a_reader_that_takes_nothing_is_cut_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "TAKEN_WITHIN_S", 0.05)
    rig.levels = {one: level(one) for one in (f"P{number:04}" for number in range(4_000))}
    versions = itertools.count(2)
    open_streams = streams.STREAMS.labels("levels")._value.get

    def cut_off() -> bool:
        version = next(versions)  # more than the system holds for who doesn't read
        rig.feed.take_levels([level_heard(one, version) for one in rig.levels])
        return open_streams() == 0

    stuck = await stuck_reader(rig.port)
    await eventually(lambda: open_streams() == 1)
    await eventually(cut_off, within_s=30)
    stuck.close()


async def test_streams_end_with_the_process_and_say_so(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where a reader takes nothing: it is cut off. Nothing is logged as an error."""
    rig.stands(1, OrderStatus.PENDING)
    stuck_at = [f"P{number:04}" for number in range(4_000)]
    rig.levels = {one: level(one) for one in stuck_at}
    async with served(rig.app) as port:
        stuck = await stuck_reader(port)
        rig.port = port
        async with rig.opened(f"{STOCK}?productId=P0001") as levels, rig.opened(PROGRESS) as order:
            await levels.next()
            await order.next()
            await eventually(lambda: streams.STREAMS.labels("levels")._value.get() >= 2)
            for version in range(2, ROUNDS):  # more than the system holds for who doesn't read
                rig.feed.take_levels([level_heard(one, version) for one in stuck_at])
                assert await levels.versions(1) == [f"P0001:{version}"]
            await rig.streams.end()
            assert await levels.next() == await order.next() == ("bye", "", {})
            assert (await levels.next(), await order.next()) == (None, None)
            assert await rig.refused(STOCK) == (503, "overloaded")
    stuck.close()
    assert [one.message for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")] == []
    assert streams.STREAMS.labels("levels")._value.get() == 0
