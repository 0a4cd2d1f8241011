"""Each toxic against a real echo server: what it does, and that it ends when told to."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

import pytest

from shared.testing.proxy import Direction, Proxy
from shared.testing.signals import Signal, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Echo:
    """Sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.got: Signal[bytes] = Signal("the echo server gets bytes")
        self.ended: Signal[None] = Signal("the echo server sees the end of a connection")
        self.port = 0

    @property
    def received(self) -> bytes:
        return b"".join(self.got.values)

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65_536):
                self.got.fire(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.ended.fire(None)
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.on_connection, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    async with server:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy.running("127.0.0.1", echo.port) as proxy:
        yield proxy


class Client:
    """One connection, closed at the end."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, data: bytes, within_s: float = 5.0) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(within_s):
            return await self.reader.readexactly(len(data))

    async def is_reset(self) -> bool:
        async with asyncio.timeout(5):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True


async def test_passes_bytes_both_ways_and_counts_them(proxy: Proxy) -> None:
    big = bytes(range(256)) * 8_192
    async with Client(proxy.port) as client:
        assert await client.ask(b"hello") == b"hello"
        assert await client.ask(big) == big
        assert proxy.open_connections == 1
    await eventually(lambda: proxy.open_connections == 0, describe="the connection is closed")
    passed = 5 + len(big)
    assert proxy.stats.passed_bytes == {Direction.UP: passed, Direction.DOWN: passed}
    assert (proxy.stats.accepted, proxy.stats.cut) == (1, 0)


async def test_an_end_of_one_side_reaches_the_other(proxy: Proxy, echo: Echo) -> None:
    async with Client(proxy.port) as client:
        await client.ask(b"x")
        client.writer.write_eof()
        await echo.ended.next()
        assert await client.reader.read() == b""


async def test_latency_delays_each_way_without_costing_throughput(proxy: Proxy) -> None:
    async with Client(proxy.port) as client:
        started_at = time.monotonic()
        await client.ask(b"x")
        assert time.monotonic() - started_at < 0.2

        proxy.set(Direction.UP, latency_ms=200)
        proxy.set(Direction.DOWN, latency_ms=100)
        started_at = time.monotonic()
        await client.ask(b"x")
        assert 0.3 <= time.monotonic() - started_at < 0.6

        # Many chunks wait at the same time, not one after the other.
        big = b"x" * 4_000_000
        started_at = time.monotonic()
        await client.ask(big)
        assert 0.3 <= time.monotonic() - started_at < 2.5


async def test_jitter_keeps_the_order(proxy: Proxy) -> None:
    proxy.set_both(latency_ms=1, jitter_ms=20)
    sent = b"".join(f"{n};".encode() for n in range(2_000))
    async with Client(proxy.port) as client:
        for start in range(0, len(sent), 200):
            client.writer.write(sent[start : start + 200])
            await client.writer.drain()
        assert await client.reader.readexactly(len(sent)) == sent


async def test_bandwidth_limits_what_passes(proxy: Proxy) -> None:
    proxy.set(Direction.DOWN, bandwidth_bytes_per_s=100_000)
    async with Client(proxy.port) as client:
        started_at = time.monotonic()
        await client.ask(b"x" * 50_000)
        assert 0.45 <= time.monotonic() - started_at < 2


async def test_cut_resets_open_connections_and_welcomes_new_ones(proxy: Proxy) -> None:
    async with Client(proxy.port) as first, Client(proxy.port) as second:
        await first.ask(b"x")
        await second.ask(b"x")
        assert proxy.cut() == 2
        assert await first.is_reset()
        assert await second.is_reset()
    async with Client(proxy.port) as client:
        assert await client.ask(b"again") == b"again"
    assert proxy.stats.cut == 2


async def test_refuse_looks_like_a_server_that_is_down(proxy: Proxy) -> None:
    async with Client(proxy.port) as open_before:
        await open_before.ask(b"x")
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await open_before.ask(b"still") == b"still"
        await proxy.heal()
        async with Client(proxy.port) as client:
            assert await client.ask(b"back") == b"back"


async def test_reset_new_accepts_and_resets(proxy: Proxy) -> None:
    proxy.reset_new()
    async with Client(proxy.port) as client:
        assert await client.is_reset()
    assert proxy.stats.reset_on_accept == 1
    await proxy.heal()
    async with Client(proxy.port) as client:
        assert await client.ask(b"back") == b"back"


async def test_half_open_swallows_bytes_and_keeps_the_socket(proxy: Proxy, echo: Echo) -> None:
    async with Client(proxy.port) as client:
        await client.ask(b"before")
        proxy.half_open()
        with pytest.raises(TimeoutError):
            await client.ask(b"lost", within_s=0.2)
        assert echo.received == b"before"
        assert not client.reader.at_eof()
        assert proxy.stats.swallowed_bytes[Direction.UP] == 4

        async with Client(proxy.port) as newcomer:
            with pytest.raises(TimeoutError):
                await newcomer.ask(b"nobody there", within_s=0.1)

        # A stream with a hole in it must not go on.
        await proxy.heal()
        assert await client.is_reset()
    async with Client(proxy.port) as client:
        assert await client.ask(b"whole") == b"whole"


async def test_half_open_hides_the_end_of_the_other_side(proxy: Proxy, echo: Echo) -> None:
    proxy.half_open()
    async with Client(proxy.port) as client:
        client.writer.write(b"x")
        await client.writer.drain()
    with pytest.raises(AssertionError, match="sees the end"):
        await echo.ended.next(within_s=0.2)


async def test_hold_stalls_and_loses_nothing(proxy: Proxy, echo: Echo) -> None:
    async with Client(proxy.port) as client:
        proxy.set(Direction.UP, hold=True)
        with pytest.raises(TimeoutError):
            await client.ask(b"late", within_s=0.2)
        assert echo.received == b""
        proxy.set(Direction.UP, hold=False)
        assert await client.reader.readexactly(4) == b"late"


async def test_byte_limit_lets_exactly_so_many_bytes_pass(proxy: Proxy, echo: Echo) -> None:
    async with Client(proxy.port) as client:
        await client.ask(b"uncounted")
        proxy.set(Direction.UP, cut_after_bytes=10)
        client.writer.write(b"0123456789abcdef")
        await echo.ended.next()
        assert echo.received == b"uncounted0123456789"
        await eventually(lambda: proxy.stats.cut == 1, describe="the connection is cut")
    async with Client(proxy.port) as client:
        assert await client.ask(b"012345678") == b"012345678"
        client.writer.write(b"9a")
        await echo.ended.next()
    assert echo.received.endswith(b"0123456789")
    assert proxy.stats.cut == 2


async def test_a_byte_limit_may_be_changed_before_it_is_reached(proxy: Proxy) -> None:
    async with Client(proxy.port) as client:
        proxy.set(Direction.UP, cut_after_bytes=10)
        await client.ask(b"012345678")
        proxy.set(Direction.UP, cut_after_bytes=None)
        await client.ask(b"x" * 100)
        proxy.set(Direction.UP, cut_after_bytes=10)
        assert await client.ask(b"012345678") == b"012345678"
    assert proxy.stats.cut == 0


async def test_a_lost_reply_means_that_the_server_did_the_work(proxy: Proxy, echo: Echo) -> None:
    proxy.lose_reply_to(b"COMMIT", times=1)
    async with Client(proxy.port) as client:
        assert await client.ask(b"BEGIN") == b"BEGIN"
        client.writer.write(b"xxCOM")
        await client.writer.drain()
        await echo.got.matching(lambda data: data.endswith(b"COM"))
        assert await client.reader.readexactly(5) == b"xxCOM"
        client.writer.write(b"MITyy")
        assert await client.is_reset()
    assert echo.received == b"BEGINxxCOMMITyy"
    assert proxy.stats.replies_lost == 1
    async with Client(proxy.port) as client:
        assert await client.ask(b"COMMIT") == b"COMMIT"


async def test_a_dead_server_closes_the_client(echo: Echo) -> None:
    async with Proxy.running("127.0.0.1", echo.port) as proxy:
        proxy.upstream = ("127.0.0.1", 1)
        async with Client(proxy.port) as client:
            assert await client.is_reset()
        assert proxy.stats.unreachable == 1
