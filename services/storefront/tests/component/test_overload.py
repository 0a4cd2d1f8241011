"""Too many, too slow, too large: turned away or cut off, while others are served (F62, F65)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from shared.testing.signals import eventually
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from shared.testing.storefronts import Storefront

    from .conftest import Alone, Orchestrator

WITHIN_S: Final = 60.0
TRICKLING: Final = 500
POST: Final = b"POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What was said until the other side closed."""
    async with asyncio.timeout(WITHIN_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def write_for_ever(writer: asyncio.StreamWriter, part: bytes) -> None:
    """Raises ConnectionError once nobody takes it any more; returns where that never comes."""
    for _ in range(100_000):
        writer.write(part)
        await writer.drain()


async def served(front: Storefront) -> None:
    """Somebody else is."""
    async with front.http() as client:
        assert (await client.get("/api/cart", params={"userId": "bob"})).status_code == 200


async def test_f62_what_is_beyond_the_bound_is_told_to_come_again(
    alone: Alone, orchestrator: Orchestrator
) -> None:
    front = await alone(IN_FLIGHT_AT_MOST="3", ANSWER_WITHIN_S="60")
    async with front.http() as client:
        ann = Shopper(client, "ann")
        admitted = [asyncio.create_task(ann.place()) for _ in range(3)]
        order_ids = await orchestrator.commands(3)
        crowd = await asyncio.gather(*(ann.place() for _ in range(30)))
        crowd += [await ann.post("/api/coupons/C/issue"), await ann.place(key="k")]
        for answer in crowd:
            assert (answer.status_code, answer.json()["reason"]) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        assert (await ann.cart()).status_code == 200
        assert not any(task.done() for task in admitted)
        await orchestrator.hold(*order_ids)
        answers = await asyncio.gather(*admitted)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["orderId"] for answer in answers} == set(order_ids)
        last = asyncio.create_task(ann.place())
        (order_id,) = set(await orchestrator.commands(4)) - set(order_ids)
        await orchestrator.hold(order_id)
        assert (await last).json()["orderId"] == order_id
    async with front.admin() as admin:
        metrics = (await admin.get("/metrics")).text
    assert 'storefront_turned_away_total{why="overload"} 32.0' in metrics
    assert "storefront_in_flight 0.0" in metrics


async def test_f62_connections_beyond_the_bound(alone: Alone) -> None:
    front = await alone(CONNECTIONS_AT_MOST="8")
    idle = [await asyncio.open_connection("127.0.0.1", front.port) for _ in range(8)]
    async with front.http() as client:
        answer = await client.get("/api/cart", params={"userId": "ann"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["reason"] == "overloaded"
    for _, writer in idle:
        writer.close()
    async with front.http() as client:
        await eventually(
            lambda: client.get("/api/cart", params={"userId": "ann"}),
            accept=lambda answer: answer.status_code == 200,
            describe="there is room again",
        )


async def test_f65_slow_and_endless_bodies_are_cut_off(alone: Alone) -> None:
    front = await alone(BODY_WITHIN_S="1", BODY_BYTES_AT_MOST="2048")
    slow = [await asyncio.open_connection("127.0.0.1", front.port) for _ in range(20)]
    for _, writer in slow:
        writer.write(POST + b"Content-Length: 1000\r\n\r\n{")
    await served(front)
    for answer in await asyncio.gather(*(closed(reader) for reader, _ in slow)):
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"application/problem+json" in answer
    for length in (b"Content-Length: 999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(POST + length)
        answering = asyncio.create_task(closed(reader))
        with pytest.raises(ConnectionError):
            await write_for_ever(writer, b"1000\r\n" + b"a" * 4_096 + b"\r\n")
        said = await answering
        assert said == b"" or said.startswith(b"HTTP/1.1 413"), said[:200]
        await served(front)


async def test_f65_a_body_too_large_is_told_so(alone: Alone) -> None:
    front = await alone(BODY_BYTES_AT_MOST="2048")
    async with front.http() as client:
        answer = await client.post("/api/orders", content=b" " * 2_049)
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")
        assert (await client.post("/api/orders", content=b" " * 2_048)).status_code == 400


async def test_f65_heads_without_end_are_cut_off(alone: Alone) -> None:
    front = await alone()
    for head in (b"GET /api/cart HTTP/1.1\r\nX-Big: ", b"GET /" + b"a" * 9):
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(head)
        with pytest.raises(ConnectionError):
            await write_for_ever(writer, b"a" * 16_384)
        await served(front)
    async with front.http() as client:
        many = {f"x-{number}": "a" * 1_000 for number in range(100)}
        assert (await client.get("/api/cart?userId=ann", headers=many)).status_code == 200
        long = {"idempotency-key": "k" * 100_000}
        assert (await client.post("/api/orders", json={}, headers=long)).status_code == 400


async def test_f65_five_hundred_that_trickle(alone: Alone, orchestrator: Orchestrator) -> None:
    """Each sends a byte now and then, half in the head and half in the body."""
    front = await alone(BODY_WITHIN_S="3", ANSWER_WITHIN_S="60")
    sockets = [await asyncio.open_connection("127.0.0.1", front.port) for _ in range(TRICKLING)]
    ended: set[int] = set()

    async def trickle(number: int) -> None:
        reader, writer = sockets[number]
        head = b"POST /api/orders HTTP/1.1\r\nX: " if number % 2 else POST
        writer.write(head if number % 2 else head + b"Content-Length: 9999\r\n\r\n")
        ending = asyncio.create_task(closed(reader))
        while not ending.done():
            try:
                writer.write(b"a")
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.wait([ending], timeout=1.0)
        await ending
        ended.add(number)
        writer.transport.abort()

    async with asyncio.TaskGroup() as tasks:
        for number in range(TRICKLING):
            tasks.create_task(trickle(number))
        async with front.http() as client:
            ann = Shopper(client, "ann")
            placing = asyncio.create_task(ann.place())
            await orchestrator.hold(*await orchestrator.commands(1))
            assert (await placing).status_code == 200
    assert len(ended) == TRICKLING
    await served(front)


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"\x00" * 64, b"PRI * HTTP/2.0"],
    ids=["tls", "half a line", "zeros", "http-2"],
)
async def test_what_is_no_http_is_let_go(alone: Alone, sent: bytes) -> None:
    front = await alone()
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(sent + b"\r\n\r\n")
    said = await closed(reader)
    assert said == b"" or said.startswith(b"HTTP/1.1 400"), said
    await served(front)
    writer.close()


async def test_who_hangs_up_is_not_waited_for(alone: Alone, orchestrator: Orchestrator) -> None:
    front = await alone(IN_FLIGHT_AT_MOST="1", ANSWER_WITHIN_S="60")
    async with front.http() as client:
        gone = asyncio.create_task(Shopper(client, "ann").place())
        (order_id,) = await orchestrator.commands(1)
        gone.cancel()
        with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
            await gone
    await orchestrator.hold(order_id)
    async with front.admin() as admin:
        await eventually(
            lambda: admin.get("/metrics"),
            accept=lambda answer: "storefront_in_flight 0.0" in answer.text,
            describe="its place is free again",
        )
