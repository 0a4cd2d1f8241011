"""A chunk of commands becomes effects and replies: load, decide, save."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, cast

from payment.books import Books
from payment.domain import decide
from payment.metrics import REFUSALS
from payment.records import PaymentState
from payment.store import Store, saved
from payment.wallets import fulfil
from shared import crash_points
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import ChargePayment, PaymentRefused, RefundPayment
from shared.pipeline import Committed, Delivery, Outgoing, Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from payment.calls import Call, Lease
    from payment.courier import Courier
    from payment.domain import SagaCommand
    from payment.records import Payment
    from payment.wallets import WalletRequest
    from shared.database import Connection, Write

REPLIES = "payment.replies.v1"
EVENTS = "wallet.events.v1"


class SagaCommands:
    """Charge and refund.

    Rows are locked before anything is decided, in one order everywhere: payments, calls to the
    gateway, wallets, each by key. Debits of one user queue at the wallet's row, a chunk at a time
    and not a charge at a time. The gateway itself is never called from here: what it is to be asked
    is written down, and handed to the courier once that is committed.
    """

    def __init__(self, currency: str, courier: Courier | None) -> None:
        """`currency` is the deployment's; without a courier there is no gateway."""
        self._currency = currency
        self._courier = courier

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk and reply to each that is decided; an order that is
        charged with other content than before gets no reply, since its payment may have happened,
        and one that waits for the gateway gets none before it answers."""
        store = Store(connection)
        commands = [cast("SagaCommand", delivery.message) for delivery in deliveries]
        payments = await store.lock_payments(command.order_id for command in commands)
        begun_s = time.monotonic()
        books = await self._load(store, commands, payments)
        crash_points.reach("after_load")

        results: list[Outgoing | Write | Refusal | Committed] = []
        refused: list[str] = []
        for delivery, command in zip(deliveries, commands, strict=True):
            reply = decide(books, command, delivery.traceparent)
            if reply is None:
                continue
            if isinstance(reply, PaymentRefused) and not delivery.duplicate:
                refused.append(reply.reason)
            results.append(delivery.decided(REPLIES, reply))
        if (handed := books.handed_over) and self._courier is not None:
            results.append(Committed(partial(self._courier.take, handed, begun_s)))
        return [*saved(store, books), *results, Committed.count(REFUSALS, refused)]

    async def _load(
        self, store: Store, commands: Sequence[SagaCommand], payments: Sequence[Payment]
    ) -> Books:
        lease: Lease | None = None
        calls: Sequence[Call] = ()
        if self._courier is not None and (asked := _by_gateway(commands, payments)):
            lease = self._courier.lease(await store.read_clock())
            calls = await store.lock_calls(asked)
        user_ids = _touched(commands, payments)
        return Books(
            self._currency,
            lease,
            has_gateway=self._courier is not None,
            payments=payments,
            calls=calls,
            wallets=await store.lock_wallets(user_ids) if user_ids else (),
        )


class WalletRequests:
    """What the treasury asks for. The pipeline answers duplicates from what it kept."""

    def __init__(self, currency: str) -> None:
        """`currency` is the deployment's."""
        self._currency = currency

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal]:
        """Decide the requests of a chunk; an event for each, or a refusal."""
        store = Store(connection)
        requests = [cast("WalletRequest", delivery.message) for delivery in deliveries]
        wallets = await store.lock_wallets({request.user_id for request in requests})
        books = Books(self._currency, wallets=wallets)
        results = [
            delivery.decided(EVENTS, fulfil(books.ledger, request, self._currency))
            for delivery, request in zip(deliveries, requests, strict=True)
        ]
        return [*saved(store, books), *results]


def _by_gateway(commands: Sequence[SagaCommand], payments: Sequence[Payment]) -> Collection[str]:
    """The orders of a chunk that concern the gateway: charged by it, now or before."""
    orders = {
        command.order_id
        for command in commands
        if isinstance(command, ChargePayment) and command.method is PaymentMethod.GATEWAY
    }
    orders.update(one.order_id for one in payments if one.charge and one.charge.by_gateway)
    return orders


def _touched(commands: Sequence[SagaCommand], payments: Sequence[Payment]) -> Collection[str]:
    """The users whose wallets a chunk may move: those of orders not charged before, and of
    captured or pending ones that are to be refunded."""
    decided = {payment.order_id for payment in payments}
    undone = {command.order_id for command in commands if isinstance(command, RefundPayment)}
    touched = {
        command.user_id
        for command in commands
        if isinstance(command, ChargePayment) and command.order_id not in decided
    }
    touched.update(
        payment.charge.user_id
        for payment in payments
        if payment.charge is not None
        and payment.state in (PaymentState.CAPTURED, PaymentState.PENDING)
        and payment.order_id in undone
    )
    return touched
