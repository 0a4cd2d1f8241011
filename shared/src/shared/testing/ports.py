"""Ports that nobody else can take between choosing and using them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class ReservedPort:
    """A free port, held by a socket that is bound and never listens.

    The kernel gives a held port to nobody who asks for any free one, nor to an outgoing connection.
    A server that asks for it by number and sets SO_REUSEADDR, as asyncio, uvicorn, Postgres and
    Java do, may listen on it as often as it is restarted. While no server does, a connection is
    refused, as with a process that is down.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Gives the port up. A server that listens on it goes on."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
