"""Delivers events to their callback addresses: signed, and again until they are taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

import httpx
import structlog

if TYPE_CHECKING:
    from gateway_simulator.outbox import Delivery, Outbox
    from gateway_simulator.store import Store
    from gateway_simulator.waiting import Alarm

SIGNATURE_HEADER: Final = "Gateway-Signature"
TIMEOUT_S: Final = 3.0
AT_ONCE: Final = 32
"""How many are under way at most."""

_log = structlog.get_logger(__name__)


class Webhooks:
    """Sends what the outbox holds."""

    def __init__(self, store: Store, outbox: Outbox, alarm: Alarm, secret: str) -> None:
        """`alarm` rings where an event was written."""
        self._store = store
        self._outbox = outbox
        self._alarm = alarm
        self._secret = secret.encode()
        self._under_way = 0

    async def run(self) -> None:
        """Runs until it is cancelled."""
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as sending,
        ):
            while True:
                room = AT_ONCE - self._under_way
                next_ms = None
                if room:
                    # leased within a transaction, so that what is sent is stored
                    for delivery in await self._store.do(lambda: self._outbox.lease(room)):  # noqa: B023
                        self._under_way += 1
                        sending.create_task(self._send(client, delivery))
                if self._under_way < AT_ONCE:
                    next_ms = await self._store.do(self._outbox.next_due_ms)
                await self._alarm.wait(next_ms)

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        try:
            was_taken = await self._post(client, delivery)
            done = self._outbox.taken if was_taken else self._outbox.failed
            await self._store.do(lambda: done(delivery.number))
        finally:
            self._under_way -= 1
            self._alarm.ring()

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery) -> bool:
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: signature(
                self._secret, int(time.time()), delivery.body, forged=delivery.forged
            ),
        }
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await client.post(delivery.url, content=delivery.body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            _log.debug("a webhook was not taken", url=delivery.url, error=str(error))
            return False
        return answer.is_success


def signature(secret: bytes, second: int, body: bytes, *, forged: bool = False) -> str:
    """The header's value for a body that is sent at `second` since the epoch."""
    key = secret if not forged else b"not " + secret
    digest = hmac.new(key, f"{second}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={second},v1={digest}"
