"""One proxied connection: two pumps, each obeying the toxics of its direction."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine

READ_BYTES = 65_536
CHUNKS_IN_FLIGHT = 256
"""How many reads may wait for their latency before the sender is held back."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    """Which way bytes flow."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Toxics:
    """What one direction does to bytes. The default does nothing."""

    latency_ms: float = 0.0
    """How long each read waits before it goes on; throughput stays, order too."""
    jitter_ms: float = 0.0
    """Added to the latency, drawn evenly from 0 to this."""
    bandwidth_bytes_per_s: int | None = None
    cut_after_bytes: int | None = None
    """Per connection, counted from the moment it is set: so many bytes pass, then a reset."""
    swallow: bool = False
    """Half-open: bytes and ends of streams vanish, the sockets stay."""
    hold: bool = False
    """A stalled link: nothing moves, nothing is lost, all of it arrives once this is over."""


@dataclass
class Stats:
    """What the proxy saw, over all connections since it started."""

    accepted: int = 0
    reset_on_accept: int = 0
    cut: int = 0
    unreachable: int = 0
    """Connections that were closed because the server behind could not be reached."""
    replies_lost: int = 0
    passed_bytes: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(Direction, 0))
    swallowed_bytes: dict[Direction, int] = field(
        default_factory=lambda: dict.fromkeys(Direction, 0)
    )


@dataclass
class LostReply:
    """Requests that contain `marker` reach the server; their replies never reach the client."""

    marker: bytes
    times: int


class Rules:
    """The toxics of a proxy, shared by its connections."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.toxics: dict[Direction, Toxics] = dict.fromkeys(Direction, Toxics())
        self.lost_replies: list[LostReply] = []
        self.changed = asyncio.Event()

    def set(self, direction: Direction, toxics: Toxics) -> None:
        """Puts `toxics` in the place of what was there, and wakes who holds bytes back."""
        self.toxics[direction] = toxics
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def delay_s(self, direction: Direction) -> float:
        """How long the next read of `direction` is to wait, in seconds."""
        toxics = self.toxics[direction]
        return (toxics.latency_ms + self.chance.uniform(0.0, toxics.jitter_ms)) / 1000

    def loses_reply(self, window: bytes) -> bool:
        """Whether `window`, the latest bytes of a request, calls for its reply to be lost."""
        for lost in self.lost_replies:
            if lost.times > 0 and lost.marker in window:
                lost.times -= 1
                return True
        return False

    def longest_marker(self) -> int:
        """Length in bytes of the longest marker that is still looked for; 0 for none."""
        return max((len(lost.marker) for lost in self.lost_replies if lost.times > 0), default=0)


class Link:
    """A client's connection and the one to the server behind, joined by two pumps."""

    def __init__(
        self,
        rules: Rules,
        stats: Stats,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._rules = rules
        self._stats = stats
        self._ends = {Direction.UP: (client[0], server[1]), Direction.DOWN: (server[0], client[1])}
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._reply_is_lost = False
        self.has_a_hole = False
        """Bytes of this connection were swallowed: it can never be whole again."""

    async def run(self) -> None:
        """Pumps both ways until both streams have ended or the link is cut."""
        for direction, (reader, writer) in self._ends.items():
            waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_IN_FLIGHT)
            self._start(self._take(direction, reader, waiting))
            self._start(self._deliver(direction, waiting, writer))
        over = asyncio.create_task(self._over.wait())
        try:
            while not all(task.done() for task in self._tasks) and not over.done():
                await asyncio.wait([*self._tasks, over], return_when=asyncio.FIRST_COMPLETED)
                self._tasks = [task for task in self._tasks if not task.done()]
        finally:
            for task in [*self._tasks, over]:
                task.cancel()
            await asyncio.gather(*self._tasks, over, return_exceptions=True)
            for _, writer in self._ends.values():
                if self._over.is_set():
                    reset(writer)
                writer.close()

    def cut(self) -> None:
        """Resets both sides at once."""
        if not self._over.is_set():
            self._stats.cut += 1
            self._over.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except OSError:  # one side is gone, and the other is to learn of it
                self._over.set()

        self._tasks.append(asyncio.create_task(guarded()))

    async def _take(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        waiting: asyncio.Queue[tuple[float, bytes]],
    ) -> None:
        loop = asyncio.get_running_loop()
        due_at = 0.0
        data = b"-"
        while data:
            data = await reader.read(READ_BYTES)
            # Jitter must not reorder the bytes of a stream.
            due_at = max(due_at, loop.time() + self._rules.delay_s(direction))
            await waiting.put((due_at, data))

    async def _deliver(
        self,
        direction: Direction,
        waiting: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        quota = _Quota()
        tail = b""
        while True:
            due_at, data = await waiting.get()
            await asyncio.sleep(max(due_at - loop.time(), 0))
            while self._rules.toxics[direction].hold:
                await self._rules.changed.wait()
            toxics = self._rules.toxics[direction]
            if toxics.swallow:
                self._stats.swallowed_bytes[direction] += len(data)
                self.has_a_hole = True
                if not data:
                    return  # the other side must not learn of the end
                continue
            if direction is Direction.DOWN and self._reply_is_lost:
                # The server has answered, so it has done what was asked.
                self._stats.replies_lost += 1
                self.cut()
                return
            if direction is Direction.UP and (longest := self._rules.longest_marker()):
                self._reply_is_lost |= self._rules.loses_reply(tail + data)
                tail = (tail + data)[-(longest - 1) :] if longest > 1 else b""
            allowed = quota.of(toxics, len(data))
            await self._write(direction, data[:allowed], writer, toxics.bandwidth_bytes_per_s)
            if allowed < len(data) or quota.is_spent:
                self.cut()
                return
            if not data:
                writer.write_eof()
                return

    async def _write(
        self,
        direction: Direction,
        data: bytes,
        writer: asyncio.StreamWriter,
        bandwidth_bytes_per_s: int | None,
    ) -> None:
        # A slow link trickles: twenty pieces a second rather than one late lump.
        step = max(bandwidth_bytes_per_s // 20, 1) if bandwidth_bytes_per_s else len(data)
        for start in range(0, len(data), step or 1):
            piece = data[start : start + step]
            if bandwidth_bytes_per_s:
                await asyncio.sleep(len(piece) / bandwidth_bytes_per_s)
            writer.write(piece)
            await writer.drain()
            self._stats.passed_bytes[direction] += len(piece)


class _Quota:
    """How many bytes may still pass before the cut, for one direction of one connection."""

    def __init__(self) -> None:
        self._toxics = Toxics()
        self._left: int | None = None

    def of(self, toxics: Toxics, wanted: int) -> int:
        """How many of `wanted` bytes may pass under `toxics`; they count as passed."""
        if toxics is not self._toxics:
            self._toxics = toxics
            self._left = toxics.cut_after_bytes
        if self._left is None:
            return wanted
        allowed = min(wanted, self._left)
        self._left -= allowed
        return allowed

    @property
    def is_spent(self) -> bool:
        return self._left == 0


def reset(writer: asyncio.StreamWriter) -> None:
    """Makes the coming close a reset (RST) rather than an orderly end (FIN), unsent bytes lost."""
    transport = writer.transport
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
