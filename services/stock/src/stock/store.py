"""Stock's tables: one typed method for each named query."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.contracts.order_parts import LineDetail, PricedLine
from shared.contracts.stock import StockRefusal, StockStrategy, WhenRedisDown
from shared.database import Queries
from stock.records import Product, Reservation, ReservationState
from stock.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import asyncpg

    from shared.database import Connection, Write
    from stock.records import Movement

queries = Queries("stock", "sql/queries.sql")


class Store:
    """Loads and saves chunks on one connection, inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work on `connection`."""
        self._connection = connection

    async def lock_reservations(self, order_ids: Iterable[str]) -> list[Reservation]:
        """The reservations of these orders that are there, locked in key order."""
        rows = await queries.lock_reservations.rows(
            self._connection, order_ids=sorted(set(order_ids))
        )
        return [_reservation(row) for row in rows]

    async def read_products(self, product_ids: Collection[str]) -> list[Product]:
        """These products as they are now, not locked."""
        rows = await queries.read_products.rows(self._connection, product_ids=list(product_ids))
        return [_product(row) for row in rows]

    async def lock_products(self, product_ids: Collection[str]) -> list[Product]:
        """These products as they are now, locked in key order."""
        rows = await queries.lock_products.rows(self._connection, product_ids=list(product_ids))
        return [_product(row) for row in rows]

    async def decided(self, order_ids: Collection[str]) -> set[str]:
        """Those of these orders that have their verdict."""
        rows = await queries.decided.rows(self._connection, order_ids=list(order_ids))
        return {row["order_id"] for row in rows}

    async def queue(self, product_ids: Collection[str]) -> None:
        """Wait for this chunk's turn at these products."""
        await queries.queue.rows(self._connection, product_ids=list(product_ids))

    async def raise_generations(self, products: Sequence[Product]) -> list[Product]:
        """Locked products under a new generation: no counter counts for them any more."""
        if products:
            await queries.raise_generations.run(
                self._connection, product_ids=[row.product_id for row in products]
            )
        return [row._replace(generation=row.generation + 1) for row in products]

    async def hot_products(self) -> list[Product]:
        """The products that are sold by a counter, as they are now."""
        return [_product(row) for row in await queries.hot_products.rows(self._connection)]

    async def add_contention(self, tallies: Mapping[str, Tally]) -> None:
        """Add what this instance measured to what the others did."""
        await queries.add_contention.run(
            self._connection,
            product_ids=list(tallies),
            commands=[one.commands for one in tallies.values()],
            conflicts=[one.conflicts for one in tallies.values()],
            refusals=[one.refusals for one in tallies.values()],
            lock_wait_mss=[one.lock_wait_ms for one in tallies.values()],
        )

    async def contention(self, window_s: float) -> dict[str, Tally]:
        """What all instances measured in the last `window_s` seconds."""
        rows = await queries.contention.rows(self._connection, window_s=window_s)
        return {product_id: Tally(*measured) for product_id, *measured in rows}

    async def forget_contention(self, keep_s: float) -> None:
        """Delete what was measured longer than `keep_s` seconds ago."""
        await queries.forget_contention.run(self._connection, keep_s=keep_s)

    async def auto_products(self, contended: Collection[str]) -> list[Product]:
        """Of the products that choose for themselves those that are contended, and those that may
        go back by now."""
        rows = await queries.auto_products.rows(self._connection, contended=list(contended))
        return [_product(row) for row in rows]

    async def lock_auto_products(self, contended: Collection[str]) -> list[Product]:
        """The same, locked in key order."""
        rows = await queries.lock_auto_products.rows(self._connection, contended=list(contended))
        return [_product(row) for row in rows]

    def insert_reservations(self, reservations: Sequence[Reservation]) -> Write:
        """Saves decisions. Conflicts where another instance decided one of the orders."""
        return queries.insert_reservations.write(
            len(reservations),
            order_ids=[row.order_id for row in reservations],
            states=[row.state for row in reservations],
            lines=[_lines_json(row) for row in reservations],
            refusals=[_refusal_json(row) for row in reservations],
        )

    def update_reservations(self, reservations: Sequence[Reservation]) -> Write:
        """Saves the states of locked reservations."""
        return queries.update_reservations.write(
            len(reservations),
            order_ids=[row.order_id for row in reservations],
            states=[row.state for row in reservations],
        )

    def insert_products(self, products: Sequence[Product]) -> Write:
        """Saves new products. Conflicts where another instance put one of them."""
        return queries.insert_products.write(
            len(products),
            **_catalogue(products),
            currencies=[row.currency for row in products],
            **_counters(products),
        )

    def update_counters(self, products: Sequence[Product]) -> Write:
        """Saves the counters of locked products."""
        return queries.update_counters.write(
            len(products),
            product_ids=[row.product_id for row in products],
            generations=[row.generation for row in products],
            **_counters(products),
        )

    def update_products(self, products: Sequence[Product]) -> Write:
        """Saves locked products whole: what an operator said of them, and their counters."""
        return queries.update_products.write(
            len(products), **_catalogue(products), **_counters(products)
        )

    def insert_movements(self, movements: Sequence[Movement]) -> Write:
        """Writes entries of the ledger."""
        return queries.insert_movements.write(
            len(movements),
            command_ids=[row.command_id for row in movements],
            product_ids=[row.product_id for row in movements],
            kinds=[row.kind for row in movements],
            quantities=[row.quantity for row in movements],
            reasons=[row.reason for row in movements],
        )


def _counters(products: Sequence[Product]) -> dict[str, list[Any]]:
    return {
        "availables": [row.available for row in products],
        "reserveds": [row.reserved for row in products],
        "solds": [row.sold for row in products],
        "receiveds": [row.received for row in products],
        "versions": [row.version for row in products],
    }


def _catalogue(products: Sequence[Product]) -> dict[str, list[Any]]:
    return {
        "product_ids": [row.product_id for row in products],
        "names": [row.name for row in products],
        "prices": [row.price for row in products],
        "strategies": [row.strategy for row in products],
        "actives": [row.active for row in products],
        "epochs": [row.epoch for row in products],
        "generations": [row.generation for row in products],
        "when_redis_downs": [row.when_redis_down for row in products],
        "max_per_orders": [row.max_per_order for row in products],
    }


def _product(row: asyncpg.Record) -> Product:
    (
        product_id, name, price, currency, strategy, when_redis_down, max_per_order,
        available, reserved, sold, received, version, active, epoch, generation,
    ) = row  # fmt: skip
    return Product(
        product_id, name, price, currency, StockStrategy(strategy),
        WhenRedisDown(when_redis_down), max_per_order,
        available, reserved, sold, received, version, StockStrategy(active), epoch, generation,
    )  # fmt: skip


def _reservation(row: asyncpg.Record) -> Reservation:
    lines = tuple(
        PricedLine(product_id=product_id, quantity=quantity, unit_price=unit_price)
        for product_id, quantity, unit_price in json.loads(row["lines"])
    )
    state = ReservationState(row["state"])
    if row["refusal"] is None:
        return Reservation(row["order_id"], state, lines)
    refusal = json.loads(row["refusal"])
    return Reservation(
        row["order_id"],
        state,
        lines,
        StockRefusal(refusal["reason"]),
        tuple(
            LineDetail(product_id=product_id, requested=requested, available=available)
            for product_id, requested, available in refusal["details"]
        ),
    )


def _lines_json(reservation: Reservation) -> str:
    return json.dumps(
        [[line.product_id, line.quantity, line.unit_price] for line in reservation.lines]
    )


def _refusal_json(reservation: Reservation) -> str | None:
    if reservation.refusal is None:
        return None
    details = [[line.product_id, line.requested, line.available] for line in reservation.details]
    return json.dumps({"reason": reservation.refusal, "details": details})
