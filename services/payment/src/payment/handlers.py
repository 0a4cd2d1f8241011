"""A chunk of commands becomes effects and replies: load, fold, save."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from payment.domain import Fold, PaymentState
from payment.metrics import REFUSALS
from payment.store import Store
from shared import crash_points
from shared.contracts.payment import ChargePayment, PaymentRefused, RefundPayment
from shared.pipeline import Committed, Delivery, Outgoing, Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from payment.domain import Payment, SagaCommand, WalletRequest
    from shared.database import Connection, Write

REPLIES = "payment.replies.v1"
EVENTS = "wallet.events.v1"


class SagaCommands:
    """Charge and refund.

    Rows are locked before the fold, in one order everywhere: payments, then wallets, each by
    key. Debits of one user queue at the wallet's row, a chunk at a time and not a charge at a
    time, and what the fold reads of it nobody can change any more.
    """

    def __init__(self, currency: str) -> None:
        """`currency` is the deployment's."""
        self._currency = currency

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk and reply to each; an order that is charged with other
        content than before gets no reply, since its payment may have happened."""
        store = Store(connection)
        commands = [cast("SagaCommand", delivery.message) for delivery in deliveries]
        payments = await store.lock_payments(command.order_id for command in commands)
        user_ids = _touched(commands, payments)
        wallets = await store.lock_wallets(user_ids) if user_ids else ()
        crash_points.reach("after_load")

        fold = Fold(payments, wallets, self._currency)
        results: list[Outgoing | Write | Refusal | Committed] = []
        refused: list[str] = []
        for delivery, command in zip(deliveries, commands, strict=True):
            reply = fold.apply(command)
            if isinstance(reply, PaymentRefused) and not delivery.duplicate:
                refused.append(reply.reason)
            results.append(delivery.decided(REPLIES, reply))
        return [*_saved(store, fold), *results, Committed.count(REFUSALS, refused)]


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
        fold = Fold((), wallets, self._currency)
        results = [
            delivery.decided(EVENTS, fold.fulfil(request))
            for delivery, request in zip(deliveries, requests, strict=True)
        ]
        return [*_saved(store, fold), *results]


def _saved(store: Store, fold: Fold) -> list[Write]:
    """What the fold changed, table by table in the one order that all chunks keep."""
    writes = []
    if new_payments := fold.new_payments:
        writes.append(store.insert_payments(new_payments))
    if changed_payments := fold.changed_payments:
        writes.append(store.update_payments(changed_payments))
    if new_wallets := fold.new_wallets:
        writes.append(store.insert_wallets(new_wallets))
    if changed_wallets := fold.changed_wallets:
        writes.append(store.update_balances(changed_wallets))
    if fold.entries:
        writes.append(store.insert_entries(fold.entries))
    return writes


def _touched(commands: Sequence[SagaCommand], payments: Sequence[Payment]) -> Collection[str]:
    """The users whose wallets a chunk may move: those of orders not charged before, and of
    captured ones that are to be refunded."""
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
        and payment.state is PaymentState.CAPTURED
        and payment.order_id in undone
    )
    return touched
