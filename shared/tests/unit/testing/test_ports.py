"""A reserved port belongs to whoever was given its number, and to nobody else."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from shared.testing.ports import ReservedPort


async def test_the_owner_may_listen_on_it_again_and_again() -> None:
    with ReservedPort() as reserved:
        for _ in range(3):
            server = await asyncio.start_server(lambda *_: None, "127.0.0.1", reserved.port)
            _, writer = await asyncio.open_connection("127.0.0.1", reserved.port)
            writer.close()
            server.close()
            await asyncio.sleep(0)


async def test_nobody_answers_while_the_owner_is_down() -> None:
    with ReservedPort() as reserved, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", reserved.port)


IP_LOCAL_PORT_RANGE = 51
"""Since Linux 6.3: from which range a socket is given its port. Not yet in Python's socket."""


def test_who_asks_for_any_port_does_not_get_it() -> None:
    def ask_for_any_port_of(port: int) -> int:
        only = struct.pack("I", port << 16 | port)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                other.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, only)
            except OSError:
                pytest.skip("this kernel can't narrow the range of free ports")
            other.bind(("127.0.0.1", 0))
            given: int = other.getsockname()[1]
            return given

    with ReservedPort() as reserved, pytest.raises(OSError, match="in use"):
        ask_for_any_port_of(reserved.port)
    assert ask_for_any_port_of(reserved.port) == reserved.port


def test_a_port_on_which_somebody_listens_cannot_be_reserved() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="in use"):
        ReservedPort(port=server.getsockname()[1])
