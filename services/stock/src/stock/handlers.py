"""A chunk of commands becomes effects and replies: load, fold, save."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from shared import crash_points
from shared.contracts.stock import ReserveStock, StockRefused
from shared.pipeline import Committed, Delivery, Outgoing, Refusal
from stock.catalogue import CatalogueFold
from stock.domain import Fold, ReservationState
from stock.metrics import CONFLICTS, REFUSALS
from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from shared.database import Connection, Write
    from stock.catalogue import AdminCommand
    from stock.domain import Product, Reservation, SagaCommand, SagaReply

REPLIES = "stock.replies.v1"
EVENTS = "stock.events.v1"

CONFLICTS_BEFORE_LOCKING = 3
"""After as many chunks in a row that had to fold again, the next one locks before it folds."""


class SagaCommands:
    """Reserve, commit and release, by the strategy `optimistic`.

    The fold works on rows read without locks. To save, the rows are locked in key order; where
    one of them has another version by then, the chunk is folded again on the locked rows, which
    nobody can change any more. So a conflict costs one fold, never a refusal.
    """

    def __init__(self, currency: str) -> None:
        """`currency` is the deployment's."""
        self._currency = currency
        self._conflicts_in_a_row = 0

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk and reply to each."""
        store = Store(connection)
        commands = [cast("SagaCommand", delivery.message) for delivery in deliveries]
        reservations = await store.lock_reservations(command.order_id for command in commands)
        product_ids = _touched(commands, reservations)
        locks_first = self._conflicts_in_a_row >= CONFLICTS_BEFORE_LOCKING
        load = store.lock_products if locks_first else store.read_products
        products = await load(product_ids)
        crash_points.reach("after_load")

        fold, replies = self._fold(commands, products, reservations)
        if fold.changed_products and not locks_first:
            locked = await store.lock_products(product_ids)
            if _versions(locked) != _versions(products):
                self._conflicts_in_a_row += 1
                CONFLICTS.inc()
                fold, replies = self._fold(commands, locked, reservations)
            else:
                self._conflicts_in_a_row = 0
        elif locks_first:
            self._conflicts_in_a_row -= 1  # one quiet chunk, and the next tries without

        refused = [
            reply.reason
            for delivery, reply in zip(deliveries, replies, strict=True)
            if isinstance(reply, StockRefused) and not delivery.duplicate
        ]
        return [
            *_saved(store, fold),
            *(
                delivery.answer(REPLIES, reply)
                for delivery, reply in zip(deliveries, replies, strict=True)
            ),
            Committed.count(REFUSALS, refused),
        ]

    def _fold(
        self,
        commands: Sequence[SagaCommand],
        products: Sequence[Product],
        reservations: Sequence[Reservation],
    ) -> tuple[Fold, list[SagaReply]]:
        fold = Fold(products, reservations, self._currency)
        return fold, [fold.apply(command) for command in commands]


class AdminCommands:
    """What operators say of products. The pipeline answers duplicates from what it kept."""

    def __init__(self, currency: str) -> None:
        """`currency` is the deployment's."""
        self._currency = currency

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal]:
        """Decide the commands of a chunk; an event for each, or a refusal."""
        store = Store(connection)
        commands = [cast("AdminCommand", delivery.message) for delivery in deliveries]
        products = await store.lock_products(sorted({command.product_id for command in commands}))
        fold = CatalogueFold(products, self._currency)
        results: list[Outgoing | Write | Refusal] = [
            delivery.decided(EVENTS, fold.apply(command))
            for delivery, command in zip(deliveries, commands, strict=True)
        ]
        if new := fold.new_products:
            results.append(store.insert_products(new))
        if changed := fold.changed_products:
            results.append(store.update_products(changed))
        if fold.movements:
            results.append(store.insert_movements(fold.movements))
        return results


def _saved(store: Store, fold: Fold) -> list[Write]:
    """What the fold changed, table by table in the one order that all chunks keep."""
    writes = []
    if new := fold.new_reservations:
        writes.append(store.insert_reservations(new))
    if changed := fold.changed_reservations:
        writes.append(store.update_reservations(changed))
    if moved := fold.changed_products:
        writes.append(store.update_counters(moved))
    if fold.movements:
        writes.append(store.insert_movements(fold.movements))
    return writes


def _touched(
    commands: Sequence[SagaCommand], reservations: Sequence[Reservation]
) -> Collection[str]:
    """The products that a chunk may move, in key order."""
    touched = {
        line.product_id
        for command in commands
        if isinstance(command, ReserveStock)
        for line in command.items
    }
    for reservation in reservations:
        if reservation.state is ReservationState.RESERVED:
            touched.update(line.product_id for line in reservation.lines)
    return sorted(touched)


def _versions(products: Sequence[Product]) -> dict[str, int]:
    return {product.product_id: product.version for product in products}
