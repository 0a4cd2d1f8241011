"""Ports of a service: who is slow, or comes too often, is cut off, and others are served."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared import serving
from shared.serving import HttpServer
from shared.testing.ports import ReservedPort
from shared.testing.signals import Gate, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

PATIENCE_S = 5.0


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@asynccontextmanager
async def served(*, connections_at_most: int = 10) -> AsyncIterator[int]:
    """A small application on a port."""
    stopped = asyncio.Event()
    with ReservedPort() as port:
        server = HttpServer(
            Starlette(routes=[Route("/", hello), Route("/body", whole_body, methods=["POST"])]),
            "127.0.0.1",
            port.port,
            connections_at_most=connections_at_most,
        )
        task = asyncio.create_task(server.serve_until(stopped))
        while not server.started:
            await asyncio.sleep(0)
        yield port.port
        stopped.set()
        await task


async def closed(reader: asyncio.StreamReader) -> None:
    """Returns once the other side has closed."""
    async with asyncio.timeout(PATIENCE_S):
        while await reader.read(1_000):
            pass


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: ", id="half-a-head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHo", id="half-a-second"),
    ],
)
async def test_f65_a_head_that_does_not_come_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(serving, "HEAD_WITHIN_S", 0.05)
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await closed(reader)
        writer.close()


async def _write_for_ever(
    writer: asyncio.StreamWriter, piece: bytes = b"a" * 16_384, *, at_most: int
) -> None:
    """Raises ConnectionError once nobody takes it any more; returns where that never comes."""
    for _ in range(at_most // len(piece)):
        writer.write(piece)
        await writer.drain()


async def test_f65_a_head_without_end_is_cut_off() -> None:
    async with served() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: ")
        with pytest.raises(ConnectionError):
            await _write_for_ever(writer, at_most=16 * 1024 * 1024)
        writer.transport.abort()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/")).text == "hello"


async def whole_body(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.mark.parametrize(
    "piece", [pytest.param(b"a" * 16_384, id="one"), pytest.param(b"x: y\r\n" * 2_700, id="many")]
)
async def test_f65_trailers_without_end_are_cut_off(piece: bytes) -> None:
    async with served() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        writer.write(head + b"x: ")
        with pytest.raises(ConnectionError):
            await _write_for_ever(writer, piece, at_most=16 * 1024 * 1024)
        writer.transport.abort()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/")).text == "hello"


async def test_a_large_body_in_chunks_is_the_applications_to_bound() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"a" * 1_024

    async with served() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(2):
            assert (await client.post("/body", content=pieces())).text == "1024000"


@pytest.mark.parametrize("length", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
async def test_f65_a_body_that_was_answered_is_not_read_to_its_end(length: bytes) -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 404")
        writer.close()


async def test_f65_whoever_is_in_time_keeps_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "HEAD_WITHIN_S", 0.2)
    async with served() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        ports = set()
        for _ in range(20):
            answer = await client.get("/")
            assert answer.text == "hello"
            stream = answer.extensions["network_stream"]
            ports.add(stream.get_extra_info("client_addr"))
            await asyncio.sleep(0.02)  # longer in all than one head may take
        assert len(ports) == 1


async def test_f65_too_many_connections_are_turned_away() -> None:
    async with served(connections_at_most=3) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.get("/")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["reason"] == "overloaded"
            for _, writer in idle:
                writer.close()
                await writer.wait_closed()
            assert (await client.get("/")).text == "hello"


async def test_f40_what_is_under_way_is_answered_when_the_port_closes() -> None:
    gate = Gate()

    async def slow(request: Request) -> PlainTextResponse:
        await gate.stop()
        return PlainTextResponse("done")

    with ReservedPort() as port:
        app = Starlette(routes=[Route("/", hello), Route("/slow", slow)])
        server = HttpServer(app, "127.0.0.1", port.port, finish_within_s=PATIENCE_S)
        task = asyncio.create_task(server.serve_until(asyncio.Event()))
        while not server.started:
            await asyncio.sleep(0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}") as client:
            assert (await client.get("/")).text == "hello"  # a connection that is idle then
            under_way = asyncio.create_task(client.get("/slow"))
            await gate.reached()
            closing = asyncio.create_task(server.close())
            await eventually(lambda: not server.servers[0].is_serving(), describe="it has closed")
            with pytest.raises(httpx.ConnectError):
                await client.get("/")
            gate.open()
            assert (await under_way).text == "done"
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(closing, task)
