"""A chunk of commands becomes effects and replies: load, decide, save."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

from payment.books import Books
from payment.calls import Lease
from payment.domain import decide
from payment.metrics import REFUSALS
from payment.store import Store, saved
from payment.wallets import fulfil
from shared import crash_points
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import (
    ChargePayment,
    PaymentCharged,
    PaymentRefused,
    PaymentState,
    RefundPayment,
)
from shared.pipeline import Committed, Delivery, Outgoing, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from payment.calls import Call
    from payment.courier import Courier
    from payment.domain import SagaCommand
    from payment.outcomes import Outcomes
    from payment.records import Payment
    from payment.wallets import WalletRequest
    from shared.database import Connection, Write
    from shared.pipeline.messages import Handler

REPLIES = "payment.replies.v1"
EVENTS = "wallet.events.v1"

ChargeReply: TypeAlias = PaymentCharged | PaymentRefused


class SagaCommands:
    """Charge and refund.

    Rows are locked before anything is decided, in one order everywhere: payments, calls to the
    gateway, wallets, each by key. Debits of one user queue at the wallet's row, a chunk at a time
    and not a charge at a time. The gateway itself is never called from here: what it is to be asked
    is written down, and handed to the courier once that is committed.
    """

    def __init__(
        self,
        currency: str,
        courier: Courier | None,
        outcomes: Outcomes,
        *,
        takes_gateway: bool = True,
    ) -> None:
        """`currency` is the deployment's; without a courier there is no gateway. Unless
        `takes_gateway`, further charges by it are refused."""
        self._currency = currency
        self._courier = courier
        self._takes_gateway = courier is not None and takes_gateway
        self._outcomes = outcomes

    @asynccontextmanager
    async def begin(self, deliveries: Sequence[Delivery]) -> AsyncIterator[Handler]:
        """Recall outcomes, while charges are being asked for again."""
        charges = [one.message for one in deliveries if isinstance(one.message, ChargePayment)]
        yield partial(self._handle, await self._outcomes.recall(charges))

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """As `begin` does, with nothing recalled."""
        return await self._handle({}, connection, deliveries)

    async def _handle(
        self,
        recalled: Mapping[str, ChargeReply],
        connection: Connection,
        deliveries: Sequence[Delivery],
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk and reply to each that is decided; an order that is
        charged with other content than before gets no reply, since its payment may have happened,
        and one that waits for the gateway gets none before it answers."""
        results: list[Outgoing | Write | Refusal | Committed] = []
        fresh: list[Delivery] = []
        for delivery in deliveries:
            known = _recalled(delivery, recalled)
            if known is None:
                fresh.append(delivery)
            else:
                results.append(delivery.answer(REPLIES, known))
        if not fresh:
            return results

        store = Store(connection)
        commands = [cast("SagaCommand", delivery.message) for delivery in fresh]
        payments = await store.lock_payments(command.order_id for command in commands)
        begun_s = time.monotonic()
        books = await self._load(store, commands, payments)
        crash_points.reach("after_load")

        refused: list[str] = []
        repeated: list[tuple[Payment, ChargeReply]] = []
        for delivery, command in zip(fresh, commands, strict=True):
            reply = decide(books, command, delivery.traceparent)
            if reply is None:
                continue
            if delivery.duplicate and isinstance(reply, PaymentCharged | PaymentRefused):
                payment = books.payment(command.order_id)
                assert payment is not None  # it has a verdict
                repeated.append((payment, reply))
            elif isinstance(reply, PaymentRefused):
                refused.append(reply.reason)
            results.append(delivery.decided(REPLIES, reply))
        results.append(Committed.count(REFUSALS, refused))
        if repeated:
            results.append(Committed(partial(self._outcomes.keep, repeated)))
        if (handed := books.handed_over) and self._courier is not None:
            results.append(Committed(partial(self._courier.take, handed, begun_s)))
        return [*saved(store, books), *results]

    async def _load(
        self, store: Store, commands: Sequence[SagaCommand], payments: Sequence[Payment]
    ) -> Books:
        lease: Lease | None = None
        calls: Sequence[Call] = ()
        known = _known_to_gateway(payments)
        if known or any(map(_is_by_gateway, commands)):
            now = await store.read_clock()
            lease = self._courier.lease(now) if self._courier else Lease.of_nobody(now)
            if known:  # a call has its payment
                calls = await store.lock_calls(known)
        user_ids = _touched(commands, payments)
        return Books(
            self._currency,
            lease,
            has_gateway=self._takes_gateway,
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


def _recalled(delivery: Delivery, recalled: Mapping[str, ChargeReply]) -> ChargeReply | None:
    """What was answered before; None unless the inbox knows this very command."""
    if not delivery.duplicate or not isinstance(delivery.message, ChargePayment):
        return None
    reply = recalled.get(delivery.message.order_id)
    return reply if reply is not None and reply.command_id == delivery.message_id else None


def _known_to_gateway(payments: Sequence[Payment]) -> Collection[str]:
    """The orders of which something was asked of the gateway before."""
    return {one.order_id for one in payments if one.charge and one.charge.by_gateway}


def _is_by_gateway(command: SagaCommand) -> bool:
    return isinstance(command, ChargePayment) and command.method is PaymentMethod.GATEWAY


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
