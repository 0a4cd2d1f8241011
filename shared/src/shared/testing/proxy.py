"""A TCP proxy that misbehaves on request, for Postgres, Redis and Kafka alike.

    async with Proxy.before(database.dsn("stock")) as proxy:
        dsn = proxy.through(database.dsn("stock"))
        proxy.set(Direction.DOWN, latency_ms=50, jitter_ms=20)
        proxy.cut()                         # every open connection is reset, new ones are welcome
        await proxy.refuse()                # new ones are refused as if nobody listened
        proxy.lose_reply_to(b"COMMIT")      # the server commits, the client never hears of it
        await proxy.heal()

`UP` is from the client to the server, `DOWN` the way back. Toxics take effect on bytes that arrive
after they are set, on open connections as well as on new ones. The proxy runs in the event loop of
the test: a test that blocks the loop blocks the wire.

Kafka tells its clients where to connect, so its advertised listener must name the proxy's port:
reserve a port first (`ReservedPort`), start the broker with its number, release it, and run the
proxy with `listen_port`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypedDict, Unpack
from urllib.parse import urlsplit, urlunsplit

from shared.testing.ports import ReservedPort
from shared.testing.proxy_link import Direction, Link, LostReply, Rules, Stats, Toxics, reset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Direction", "Proxy", "Stats", "Toxics"]

CONNECT_TIMEOUT_S = 5.0
BACKLOG = 1024
HOST = "127.0.0.1"


class ToxicChanges(TypedDict, total=False):
    """The fields of `Toxics`, each optional."""

    latency_ms: float
    jitter_ms: float
    bandwidth_bytes_per_s: int | None
    cut_after_bytes: int | None
    swallow: bool
    hold: bool


class Proxy:
    """One listening port in front of one server. `Proxy.running` makes one."""

    def __init__(self, host: str, port: int, *, reserved: ReservedPort, seed: int) -> None:
        self.upstream = (host, port)
        """Where connections go on to; may be changed, for connections yet to come."""
        self.stats = Stats()
        self._reserved = reserved
        self._rules = Rules(random.Random(seed))
        self._links: set[Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._resets_new = False

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, url: str, *, seed: int = 0) -> AsyncIterator[Self]:
        """Runs a proxy to the server that `url` names; `through(url)` is the way to it."""
        parts = urlsplit(url)
        assert parts.hostname, f"{url} names no host"
        assert parts.port, f"{url} names no port"
        async with cls.running(parts.hostname, parts.port, seed=seed) as proxy:
            yield proxy

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, host: str, port: int, *, listen_port: int = 0, seed: int = 0
    ) -> AsyncIterator[Self]:
        """Runs a proxy to `host:port` that listens on 127.0.0.1, on a free port unless given.

        `seed` drives the jitter. Raises OSError where `listen_port` is taken.
        """
        proxy = cls(host, port, reserved=ReservedPort(HOST, listen_port), seed=seed)
        try:
            await proxy.accept()
            yield proxy
        finally:
            await proxy.close()

    @property
    def port(self) -> int:
        """The port that clients connect to; it stays the same while connections are refused."""
        return self._reserved.port

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    def through(self, url: str) -> str:
        """The same URL by way of this proxy."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{self.address}"))

    @property
    def open_connections(self) -> int:
        """How many connections run through the proxy now."""
        return len(self._links)

    def set(self, direction: Direction, **changes: Unpack[ToxicChanges]) -> None:
        """Changes toxics of one direction; those not named stay as they are."""
        self._rules.set(direction, replace(self._rules.toxics[direction], **changes))

    def set_both(self, **changes: Unpack[ToxicChanges]) -> None:
        """Changes toxics of both directions, as a bad network does."""
        for direction in Direction:
            self.set(direction, **changes)

    def half_open(self) -> None:
        """A partition: bytes vanish both ways, sockets stay, new connections seem to succeed."""
        self.set_both(swallow=True)

    def lose_reply_to(self, marker: bytes, *, times: int = 1) -> None:
        """Lets requests with `marker` through, and resets the connection when the reply comes.

        The server has then done what the client will never hear of: `COMMIT` for Postgres,
        `EVALSHA` for Redis. `times` requests are hit; `stats.replies_lost` counts them.
        """
        self._rules.lost_replies.append(LostReply(marker, times))

    def cut(self) -> int:
        """Resets every open connection and returns how many; new ones are accepted."""
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    async def refuse(self) -> None:
        """Refuses new connections, as a server that is down does. Open ones go on."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await asyncio.sleep(0)  # the loop closes the listening socket in its next round

    def reset_new(self) -> None:
        """Accepts new connections and resets them at once, as an overloaded balancer does."""
        self._resets_new = True

    async def accept(self) -> None:
        """Accepts new connections again."""
        self._resets_new = False
        if self._server is None:
            self._server = await asyncio.start_server(
                self._on_connection, HOST, self.port, backlog=BACKLOG, reuse_address=True
            )

    async def heal(self) -> None:
        """Ends all faults. Connections that lost bytes are cut: they can't be whole again."""
        self._rules.lost_replies.clear()
        for direction in Direction:
            self._rules.set(direction, Toxics())
        for link in list(self._links):
            if link.has_a_hole:
                link.cut()
        await self.accept()

    async def close(self) -> None:
        """Stops listening, resets what is open, and gives the port up."""
        await self.refuse()
        self.cut()
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=CONNECT_TIMEOUT_S)
        self._reserved.release()

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        self.stats.accepted += 1
        if self._resets_new:
            self.stats.reset_on_accept += 1
            reset(writer)
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                server = await asyncio.open_connection(*self.upstream)
        except OSError:  # TimeoutError among them
            self.stats.unreachable += 1
            reset(writer)
            return
        link = Link(self._rules, self.stats, (reader, writer), server)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            with contextlib.suppress(OSError):
                await writer.wait_closed()
