"""Charges by the gateway: how many requests at once, and how soon one is made again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bench.bus import Outgoing
from bench.faults import gateway_faults
from bench.phases import Work, arrive, drain, held
from bench.settings.record import CallsRepeat, PauseRepeat
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import ChargePayment

if TYPE_CHECKING:
    from bench.phases import Ground

COMMANDS, REPLIES, CHARGED = "payment.commands.v1", "payment.replies.v1", "PaymentCharged"
STAMPED: Final = (COMMANDS, REPLIES)
PAYMENT: Final = "payment-0"
LATENCY_S: Final = 0.2
"""Of a gateway on a good day."""
SLOW: Final = ({"fault": "latency", "seconds": LATENCY_S},)
FAILING_SHARE: Final = 0.1
PROCESSING_S: Final = 2.0
FAILING: Final = (
    {"fault": "drop_webhooks"},
    {"fault": "error_before_charge", "share": FAILING_SHARE, "on": ["charge"]},
    {"fault": "processing", "share": FAILING_SHARE, "seconds": PROCESSING_S},
)
"""A tenth of the requests come to nothing, a tenth of the charges are in process for two seconds,
and no callback comes to tell of it."""
RATE: Final = 60
"""Charges a second that arrive: the retries of them stay within their budget."""
REQUESTS: Final = "SELECT sum(attempt) FROM payment.gateway_call WHERE starts_with(order_id, $1)"


async def measure_calls(ground: Ground, at_once: int, charges: int, run: str) -> CallsRepeat:
    """A backlog, drained by a service that was started with this setting."""
    work = _charges(f"calls-{at_once}-{run}", charges)
    async with gateway_faults(ground.stack.env()["GATEWAY_URL"], *SLOW):
        ground.stack.override(PAYMENT, {"GATEWAY_CALLS_AT_ONCE": str(at_once)})
        done = await drain(ground, work, lambda: held(ground.stack, PAYMENT))
    return CallsRepeat(at_once=at_once, done=done)


async def measure_pause(ground: Ground, first_s: float, charges: int, run: str) -> PauseRepeat:
    """Charges that arrive at a service that was started with this setting."""
    prefix = f"pause-{first_s:g}-{run}"
    async with gateway_faults(ground.stack.env()["GATEWAY_URL"], *FAILING):
        ground.stack.override(PAYMENT, {"GATEWAY_RETRY_FIRST_S": str(first_s)})
        async with held(ground.stack, PAYMENT):
            pass
        done = await arrive(ground, _charges(prefix, charges), RATE)
    requests = await ground.database.fetchval(REQUESTS, prefix)
    return PauseRepeat(first_s=first_s, done=done, requests=int(requests))


async def undo_settings(ground: Ground) -> None:
    """The service has its own settings again from its next start on."""
    await asyncio.to_thread(ground.stack.override, PAYMENT, {})


def _charges(prefix: str, count: int) -> Work:
    messages = []
    for number in range(count):
        order_id = f"{prefix}-{number}"
        message = ChargePayment(
            command_id=f"{order_id}:charge:do",
            order_id=order_id,
            user_id="user_1",
            amount=1_000,
            currency="KRW",
            method=PaymentMethod.GATEWAY,
            points=0,
        )
        messages.append(Outgoing(order_id.encode(), message.to_bytes()))
    return Work(COMMANDS, messages, REPLIES, {CHARGED: count}, frozenset({CHARGED}))
