"""A chunk of commands becomes effects and replies: load, fold, save."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from shared import crash_points
from shared.contracts.stock import ReserveStock, StockRefused
from shared.pipeline import Committed, Delivery, Outgoing, Refusal, in_order_of_arrival
from stock.admission import NOTHING_ASKED, NotAdmittedError
from stock.catalogue import CatalogueFold
from stock.chunk import Chunk, counter_moves
from stock.low_stock import low_stock_events
from stock.metrics import CONFLICTS, LOCK_SECONDS, REFUSALS
from stock.store import Store
from stock.strategies import WAYS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.database import Connection, Write
    from shared.pipeline import Handler
    from stock.admission import Admission
    from stock.admitter import Admitter
    from stock.catalogue import AdminCommand
    from stock.chunk import Folded
    from stock.contention import Contention
    from stock.domain import Fold, SagaCommand
    from stock.records import Product
    from stock.strategies import Way

REPLIES = "stock.replies.v1"
EVENTS = "stock.events.v1"

CONFLICTS_BEFORE_LOCKING = 3
"""After as many chunks in a row that had to fold again, the next one locks before it folds."""


class SagaCommands:
    """Reserve, commit and release, each product by its strategy (`strategies.py`).

    Where nothing is locked before the fold, the rows are locked to save; where one of them has
    another version by then, the chunk is folded again on the locked rows, which nobody can change
    any more. So a conflict costs one fold, never a refusal.
    """

    def __init__(
        self,
        currency: str,
        admitter: Admitter,
        contention: Contention,
        low_stock_units: int = 0,
    ) -> None:
        """`currency` is the deployment's; `low_stock_units` as in the settings."""
        self._currency = currency
        self._admitter = admitter
        self._contention = contention
        self._low_stock_units = low_stock_units
        self._conflicts_in_a_row = 0
        self._admitted_in_vain = 0
        self._ways: dict[str, Way] = {}
        """Of the products that are known to be locked before the fold."""

    @asynccontextmanager
    async def begin(self, deliveries: Sequence[Delivery]) -> AsyncIterator[Handler]:
        """Ask the counters of hot products, before the transaction."""
        if not self._admitter.has_hot:
            yield self
            return
        commands = [
            delivery.message
            for delivery in in_order_of_arrival(deliveries)
            if isinstance(delivery.message, ReserveStock)
        ]
        admission = await self._admitter.admit(commands, in_vain=self._admitted_in_vain)
        yield partial(self._decide, admission)

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide a chunk for which no counter was asked."""
        admission = NOTHING_ASKED._replace(away=self._admitter.reach.is_away)
        return await self._decide(admission, connection, deliveries)

    async def _decide(
        self, admission: Admission, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk and reply to each."""
        store = Store(connection)
        deliveries = in_order_of_arrival(deliveries)
        commands = [cast("SagaCommand", delivery.message) for delivery in deliveries]
        reservations = await store.lock_reservations(command.order_id for command in commands)
        chunk = Chunk(commands, reservations, admission, self._currency)
        try:
            folded = await self._fold(store, chunk)
        except NotAdmittedError:
            self._admitted_in_vain += 1
            raise
        self._admitted_in_vain = 0
        refused = [
            reply.reason
            for delivery, reply in zip(deliveries, folded.replies, strict=True)
            if isinstance(reply, StockRefused) and not delivery.duplicate
        ]
        after = partial(self._admitter.after, folded.given_back, folded.moves)
        return [
            *_saved(store, folded.fold),
            *(
                delivery.answer(REPLIES, reply)
                for delivery, reply in zip(deliveries, folded.replies, strict=True)
            ),
            *low_stock_events(deliveries, folded.fold, self._low_stock_units),
            Committed.count(REFUSALS, refused),
            Committed(after),
            Committed(partial(self._contention.record, chunk.tally(folded.replies))),
        ]

    async def _fold(self, store: Store, chunk: Chunk) -> Folded:
        """Fold on rows that are locked, by then at the latest."""
        locks_first = self._conflicts_in_a_row >= CONFLICTS_BEFORE_LOCKING or any(
            product_id in self._ways for product_id in chunk.moved
        )
        if locks_first:
            products = await self._lock(store, chunk)
        else:
            products = await self._read(store, [*chunk.moved, *chunk.watched])
            if not self._ways.keys().isdisjoint(chunk.moved):
                locks_first, products = True, await self._lock(store, chunk)
        crash_points.reach("after_load")

        folded = chunk.fold(products)
        if locks_first:
            if self._conflicts_in_a_row:
                self._conflicts_in_a_row -= 1  # one quiet chunk, and the next tries without
        elif folded.fold.changed_products:
            locked = await self._lock(store, chunk)
            chunk.conflicted = _changed(products, locked) & set(chunk.moved)
            if chunk.conflicted:
                self._conflicts_in_a_row += 1
                CONFLICTS.inc()
                folded = chunk.fold(locked)
            else:
                self._conflicts_in_a_row = 0
        return folded

    async def _lock(self, store: Store, chunk: Chunk) -> list[Product]:
        queued = [one for one in chunk.moved if one in self._ways and self._ways[one].queues]
        if not chunk.moved:
            return await self._read(store, chunk.watched)
        began_s = time.perf_counter()
        if queued:
            await store.queue(queued)
        products = await store.lock_products(chunk.moved)
        chunk.waited_s = time.perf_counter() - began_s
        LOCK_SECONDS.observe(chunk.waited_s)
        self._learn(products)
        if chunk.watched:
            products += await self._read(store, chunk.watched)
        return products

    async def _read(self, store: Store, product_ids: Sequence[str]) -> list[Product]:
        products = await store.read_products(product_ids)
        self._learn(products)
        return products

    def _learn(self, products: Sequence[Product]) -> None:
        self._admitter.learn(products)
        for product in products:
            way = WAYS[product.active]
            if way.locks_first:
                self._ways[product.product_id] = way
            else:
                self._ways.pop(product.product_id, None)


class AdminCommands:
    """What operators say of products. The pipeline answers duplicates from what it kept."""

    def __init__(self, currency: str, admitter: Admitter, low_stock_units: int = 0) -> None:
        """`currency` is the deployment's; `low_stock_units` as in the settings."""
        self._currency = currency
        self._admitter = admitter
        self._low_stock_units = low_stock_units

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk; an event for each, or a refusal."""
        store = Store(connection)
        commands = [cast("AdminCommand", delivery.message) for delivery in deliveries]
        products = await store.lock_products(sorted({command.product_id for command in commands}))
        fold = CatalogueFold(products, self._currency)
        results: list[Outgoing | Write | Refusal | Committed] = [
            delivery.decided(EVENTS, fold.apply(command))
            for delivery, command in zip(deliveries, commands, strict=True)
        ]
        if self._admitter.reach.is_away:
            fold.void_counters()
        if new := fold.new_products:
            results.append(store.insert_products(new))
        if changed := fold.changed_products:
            results.append(store.update_products(changed))
        if fold.movements:
            results.append(store.insert_movements(fold.movements))
        results += low_stock_events(deliveries, fold, self._low_stock_units)
        if moves := counter_moves(fold.movements, fold.products):
            results.append(Committed(partial(self._admitter.after, (), moves)))
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


def _changed(read: Sequence[Product], locked: Sequence[Product]) -> set[str]:
    """The products that were others when they were read."""
    before = {product.product_id: (product.version, product.generation) for product in read}
    return {
        product.product_id
        for product in locked
        if before.get(product.product_id) != (product.version, product.generation)
    }
