"""The simulator as a process, and a receiver of its webhooks."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from shared.testing.ports import ReservedPort
from shared.testing.signals import Signal, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WITHIN_S: Final = 60.0
"""For whatever must happen; the machine may be busy."""
SECRET: Final = "the secret"


class Simulator:
    """One book, and the process that keeps it, killed and started again at will."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = ReservedPort()
        self.book = folder / "book.sqlite"
        self.log = folder / "gateway.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "GATEWAY_PORT": str(self.port.port),
            "GATEWAY_BOOK": str(self.book),
            "GATEWAY_API_KEY": "key",
            "GATEWAY_WEBHOOK_SECRET": SECRET,
            **environment,
        }
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port.port}",
            headers={"Authorization": "Bearer key"},
            timeout=WITHIN_S,
        )

    def spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway_simulator.main"],
                env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip

    async def start(self) -> None:
        self.spawn()
        await eventually(
            lambda: self.client.get("/readyz"),
            within_s=WITHIN_S,
            accept=lambda answer: answer.status_code == 200,
            describe="the simulator is ready",
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def end(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, WITHIN_S)

    def edit(self, statement: str) -> None:
        """Change the book while nobody keeps it: how a test lets time pass."""
        with closing(sqlite3.connect(self.book)) as connection, connection:
            connection.execute(statement)

    async def faults(self, *rules: dict[str, Any]) -> None:
        answer = await self.client.put("/admin/faults", json={"rules": rules})
        assert answer.status_code == 200, answer.text

    async def struck(self) -> list[int]:
        shown = (await self.client.get("/admin/faults")).json()
        return [rule["struck"] for rule in shown["rules"]]

    async def has_struck(self, times: int = 1) -> None:
        await eventually(
            self.struck,
            within_s=WITHIN_S,
            accept=lambda struck: struck[0] >= times,
            describe="the fault has struck",
        )

    async def charge(self, key: str = "payment:o-1", **members: Any) -> httpx.Response:
        body = {
            "amount": 1_200, "currency": "KRW", "reference": key.removeprefix("payment:"),
            "customer": "ann",
        }  # fmt: skip
        headers = {"Idempotency-Key": key}
        return await self.client.post("/v1/charges", json=body | members, headers=headers)

    async def refund(self, charge: str, key: str = "refund:o-1", **members: Any) -> httpx.Response:
        body = {"charge": charge, "amount": 1_200, "currency": "KRW"} | members
        headers = {"Idempotency-Key": key}
        return await self.client.post("/v1/refunds", json=body, headers=headers)

    async def by_key(self, key: str = "payment:o-1", what: str = "charges") -> list[dict[str, Any]]:
        """The inquiry."""
        answer = await self.client.get(f"/v1/{what}", params={"idempotencyKey": key})
        found: list[dict[str, Any]] = answer.json()[what]
        return found

    async def sums(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get("/admin/book")).json()
        return found

    async def close(self) -> None:
        await self.client.aclose()
        if self.process.poll() is None:
            self.kill()
        self.port.release()


@dataclass(frozen=True)
class Call:
    """A webhook as it came in."""

    body: bytes
    signature: str

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def is_genuine(self) -> bool:
        second, _, digest = self.signature.partition(",v1=")
        signed = second.removeprefix("t=").encode() + b"." + self.body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        return second.startswith("t=") and hmac.compare_digest(digest, expected)


class Receiver:
    """Takes webhooks, and answers with `status`."""

    def __init__(self) -> None:
        self.calls: Signal[Call] = Signal("a webhook")
        self.status = 204
        self.url = ""
        self._connections: set[asyncio.StreamWriter] = set()

    async def types(self, count: int) -> list[str]:
        """Of the first so many calls."""
        calls = await self.calls.count(count, within_s=WITHIN_S)
        return [call.event["type"] for call in calls]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.calls.fire(Call(body, headers["gateway-signature"]))
                phrase = HTTPStatus(self.status).phrase
                writer.write(
                    f"HTTP/1.1 {self.status} {phrase}\r\ncontent-length: 0\r\n\r\n".encode()
                )
        except asyncio.IncompleteReadError:
            return
        finally:
            self._connections.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Close what is open, as a receiver that restarts does."""
        for writer in self._connections:
            writer.close()


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    simulator = Simulator(tmp_path)
    await simulator.start()
    yield simulator
    await simulator.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
        stack.callback(server.close)
        stack.callback(receiver.hang_up)
        port = server.sockets[0].getsockname()[1]
        receiver.url = f"http://127.0.0.1:{port}/callbacks?from=gateway"
        yield receiver
