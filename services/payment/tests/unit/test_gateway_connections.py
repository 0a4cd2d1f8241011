"""Connections to the gateway that break, hang, or find nobody: every request ends, none raises."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from payment.calls import Call, NotTaken, Silent, key_of
from payment.gateway import MAX_ANSWER_BYTES, Gateway
from shared.contracts.payment import CallKind, CallState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UNTIL = datetime(2026, 1, 1, tzinfo=UTC)
CHARGE = Call(key_of(CallKind.CHARGE, "o1"), "o1", CallKind.CHARGE, CallState.INTENDED, "u1", 60,
              "KRW", "o1:charge:do", "")  # fmt: skip


@asynccontextmanager
async def gateway_that(
    says: bytes = b"", *, holds: bool = False, timeout_s: float = 5.0, at_once: int = 4
) -> AsyncIterator[Gateway]:
    """To a server that says these bytes to everybody, and hangs up unless it `holds`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        if holds:
            await reader.read()  # until the client hangs up
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = Gateway(f"http://127.0.0.1:{port}", "secret", timeout_s=timeout_s)
    yield gateway
    await gateway.close()
    server.close()


@pytest.mark.parametrize(
    "says",
    [b"", b"HTTP/1.1 201 Created\r\n", b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"],
)
async def test_f24_a_gateway_that_never_ends_its_answer_is_given_up(says: bytes) -> None:
    async with gateway_that(says, holds=True, timeout_s=0.05) as gateway:
        for _ in range(3):  # and its one connection is free again each time
            assert await gateway.send(CHARGE, UNTIL) == Silent("no answer in 0.05 s")
            assert await gateway.find(CHARGE) == Silent("no answer in 0.05 s")


async def test_an_answer_that_is_too_long_is_not_read_to_its_end() -> None:
    head = f"HTTP/1.1 201 Created\r\nContent-Length: {MAX_ANSWER_BYTES * 9}\r\n\r\n".encode()
    async with gateway_that(head + b" " * (MAX_ANSWER_BYTES + 1), holds=True) as gateway:
        answer = await gateway.send(CHARGE, UNTIL)
        assert answer == Silent(f"an answer of more than {MAX_ANSWER_BYTES} bytes")


@pytest.mark.parametrize(
    "says",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
     b"HTTP/1.1 99999 ?\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n"],
)  # fmt: skip
async def test_f24_a_connection_that_breaks_tells_nothing(says: bytes) -> None:
    async with gateway_that(says) as gateway:
        for answer in (await gateway.send(CHARGE, UNTIL), await gateway.find(CHARGE)):
            assert isinstance(answer, Silent)
            assert answer.is_failure
            assert len(answer.why) <= 200


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_f33_a_request_that_found_nobody_was_not_taken_and_an_inquiry_learned_nothing(
    url: str,
) -> None:
    gateway = Gateway(url, "secret", timeout_s=5.0)
    assert isinstance(await gateway.send(CHARGE, UNTIL), NotTaken)
    assert isinstance(await gateway.find(CHARGE), Silent)
    await gateway.close()
    await gateway.close()
