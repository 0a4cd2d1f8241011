"""What runs low: an event as a product falls to its threshold, and how many products are low."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from shared.contracts.stock import StockLow
from shared.pipeline import Outgoing
from stock.levels import queries
from stock.metrics import LOW_PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.database import Pool
    from shared.pipeline import Delivery
    from stock.catalogue import CatalogueFold
    from stock.domain import Fold

TOPIC: Final = "stock.events.v1"


def low_stock_events(
    deliveries: Iterable[Delivery], fold: Fold | CatalogueFold, units: int
) -> list[Outgoing]:
    """A `StockLow` for each product that fell to `units` available or below within a chunk, in the
    trace of the command that moved it last.

    A product that fell and rose within one chunk was never seen low by anybody: nothing is told.
    """
    low = fold.fallen_products(units)
    if not low:
        return []
    moved_by = {movement.product_id: movement.command_id for movement in fold.movements}
    traces = {delivery.message_id: delivery.traceparent for delivery in deliveries}
    at = datetime.now(UTC)
    events = [
        StockLow(
            product_id=product.product_id,
            available=product.available,
            threshold=units,
            version=product.version,
            at=at,
        )
        for product in low
    ]
    return [
        Outgoing(TOPIC, event.product_id, event, event.level_id, traces[moved_by[event.product_id]])
        for event in events
    ]


class LowStockCount:
    """Keeps the metric `stock_low_products`."""

    def __init__(self, pool: Pool, units: int) -> None:
        """A product is low with `units` available or fewer."""
        self._pool = pool
        self._units = units

    async def run_once(self) -> None:
        """Count them."""
        async with self._pool.acquire() as connection:
            LOW_PRODUCTS.set(await queries.count_low.value(connection, units=self._units))
