"""Delivers events to their callback addresses: signed, and again until they are taken."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

import structlog

from gateway_simulator.sender import Sender

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
        self._sender = Sender()
        self._under_way = 0

    async def run(self) -> None:
        """Runs until it is cancelled."""
        with contextlib.closing(self._sender):
            async with asyncio.TaskGroup() as sending:
                while True:
                    # what is leased is stored by then, and so is told of nothing that isn't
                    leased, next_ms = await self._store.do(self._lease)
                    for delivery in leased:
                        self._under_way += 1
                        sending.create_task(self._send(delivery))
                    await self._alarm.wait(next_ms)

    def _lease(self) -> tuple[list[Delivery], int | None]:
        """Events to be sent now, and when to look again unless the alarm rings before."""
        room = AT_ONCE - self._under_way
        if not room:
            return [], None
        leased = self._outbox.lease(room)
        return leased, None if len(leased) == room else self._outbox.next_due_ms()

    async def _send(self, delivery: Delivery) -> None:
        try:
            was_taken = await self._post(delivery)
            done = self._outbox.taken if was_taken else self._outbox.failed
            await self._store.do(lambda: done(delivery.number))
        finally:
            self._under_way -= 1
            self._alarm.ring()

    async def _post(self, delivery: Delivery) -> bool:
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: signature(
                self._secret, int(time.time()), delivery.body, forged=delivery.forged
            ),
        }
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._sender.post(delivery.url, headers, delivery.body)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            _log.debug("a webhook was not taken", url=delivery.url, error=repr(error))
            return False


def signature(secret: bytes, second: int, body: bytes, *, forged: bool = False) -> str:
    """The header's value for a body that is sent at `second` since the epoch."""
    key = secret if not forged else b"not " + secret
    digest = hmac.new(key, f"{second}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={second},v1={digest}"
