"""What a request costs the process that answers it, in microseconds of CPU.

    python loadtest/request_cost.py --pid "$PID_STOREFRONT_0" "$STOREFRONT_URL/api/products"
    python loadtest/request_cost.py --pid "$PID_STOREFRONT_0" "$STOREFRONT_URL/api/cart" \\
        --body '{"userId":"user_1","productId":"P001","quantity":1}'

Twenty connections send in turn and read in turn, so that the process always finds some to answer.
With the stack's addresses in the environment, as `make env` tells them. Its CPU time is the
kernel's (/proc), in steps of 10 ms: a thousand requests are the least that says something.
"""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

CONNECTIONS: Final = 20
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def read_answer(connection: socket.socket) -> None:
    """Read one answer to its end. Raises SystemExit where it is no 200."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65_536)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise SystemExit(f"the answer is no 200: {head.splitlines()[0].decode()}: {body[:200]!r}")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    while len(body) < int(length or b"0"):
        body += connection.recv(65_536)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True, help="of the process that answers")
    parser.add_argument("--body", default="", help="JSON; with it the request is a POST")
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    where = urlsplit(arguments.url)
    body = arguments.body.encode()
    path = where.path + (f"?{where.query}" if where.query else "")
    request = (
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    connections = [
        socket.create_connection((where.hostname or "127.0.0.1", where.port or 80), timeout=10)
        for _ in range(CONNECTIONS)
    ]
    for _ in range(arguments.rounds):
        before = cpu_s(arguments.pid)
        sent = 0
        while sent < arguments.requests:
            for connection in connections:
                connection.sendall(request)
            for connection in connections:
                read_answer(connection)
            sent += CONNECTIONS
        print(f"{(cpu_s(arguments.pid) - before) / sent * 1e6:.0f} us a request")


if __name__ == "__main__":
    main()
