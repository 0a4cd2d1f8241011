"""Posts to callback addresses over connections that are kept.

As little of HTTP/1.1 as that takes: charges wait while events are sent, and a client that can do
everything costs ten times what a charge costs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    Address = tuple[str, int, bool]
    Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_PORTS: Final = {"http": 80, "https": 443}
_SUCCESS: Final = range(200, 300)


class Sender:
    """Connections to receivers, kept while they are good."""

    def __init__(self) -> None:
        self._idle: defaultdict[Address, list[Connection]] = defaultdict(list)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the answer was 2xx. Redirects are not followed.

        Raises OSError, EOFError or ValueError where there was no answer that could be read. The
        time is for the caller to limit.
        """
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError(f"{url!r} names no host")
        is_tls = parts.scheme == "https"
        address = (parts.hostname, parts.port or _PORTS[parts.scheme], is_tls)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            f"Content-Length: {len(body)}\r\n{''.join(lines)}\r\n"
        )
        reader, writer = await self._connection(address)
        is_kept = False
        try:
            writer.write(head.encode("latin-1") + body)
            status, is_kept = await _answer(reader)
        finally:
            if is_kept:
                self._idle[address].append((reader, writer))
            else:
                writer.close()
        return status in _SUCCESS

    def close(self) -> None:
        """Let go of all connections."""
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()

    async def _connection(self, address: Address) -> Connection:
        idle = self._idle[address]
        while idle:
            reader, writer = idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        host, port, is_tls = address
        return await asyncio.open_connection(host, port, ssl=is_tls or None)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Its status, and whether the connection is good for another request."""
    words = (await reader.readuntil(b"\r\n")).split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ValueError("the answer isn't HTTP/1.1")
    status = int(words[1])
    length: int | None = 0 if status == 204 else None
    is_kept = words[0] == b"HTTP/1.1"
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.lower().partition(b":")
        if name == b"content-length":
            length = int(value)
        elif name == b"connection":
            is_kept = is_kept and b"close" not in value
    if length is None:  # it ends where its connection does, or is chunked: not worth the reading
        return status, False
    await reader.readexactly(length)
    return status, is_kept
