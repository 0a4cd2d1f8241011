"""Stock's records: products, reservations, entries of the ledger, and their states. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from shared.contracts.stock import StockRefusal, StockStrategy, WhenRedisDown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.contracts.order_parts import LineDetail, PricedLine

_Row = TypeVar("_Row")


class ReservationState(StrEnum):
    """What became of an order's reservation."""

    RESERVED = "RESERVED"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    REFUSED = "REFUSED"
    TOMBSTONE = "TOMBSTONE"
    """The release came first: a reservation that comes later is refused."""


class MovementKind(StrEnum):
    """Which way units moved."""

    RECEIVED = "received"
    ADJUSTED = "adjusted"
    RESERVED = "reserved"
    COMMITTED = "committed"
    RELEASED = "released"


class Fence(NamedTuple):
    """Under what a counter in Redis was written: what was admitted under another is void."""

    epoch: int
    generation: int


class Product(NamedTuple):
    """A product and its units."""

    product_id: str
    name: str
    price: int
    currency: str
    strategy: StockStrategy
    when_redis_down: WhenRedisDown
    max_per_order: int | None
    available: int
    reserved: int
    sold: int
    received: int
    version: int
    active: StockStrategy
    """The strategy at work: `strategy`, or what was chosen for `auto`."""
    epoch: int
    """Rises when `active` changes."""
    generation: int
    """Rises when the counter in Redis is written anew, or can't be trusted any more."""

    @property
    def fence(self) -> Fence:
        """What an admission by the counter must have been made under."""
        return Fence(self.epoch, self.generation)

    def moved(
        self, *, available: int = 0, reserved: int = 0, sold: int = 0, received: int = 0
    ) -> Product:
        """The product after its counters changed by these amounts: one version later."""
        return Product(
            self.product_id, self.name, self.price, self.currency, self.strategy,
            self.when_redis_down, self.max_per_order, self.available + available,
            self.reserved + reserved, self.sold + sold, self.received + received,
            self.version + 1, self.active, self.epoch, self.generation,
        )  # fmt: skip

    def under(self, strategy: StockStrategy) -> Product:
        """The product as an operator sets it; `auto` goes on with what is at work."""
        active = self.active if strategy is StockStrategy.AUTO else strategy
        return self.working_by(active)._replace(strategy=strategy)

    def working_by(self, active: StockStrategy) -> Product:
        """The product with this strategy at work, one version later. Where it is another than
        before, the epoch rises, and nothing that was admitted until then counts."""
        changed = active is not self.active
        return self._replace(
            active=active,
            epoch=self.epoch + changed,
            generation=self.generation + changed,
            version=self.version + 1,
        )


class Reservation(NamedTuple):
    """What was decided for an order, kept for good so that it can be said again."""

    order_id: str
    state: ReservationState
    lines: tuple[PricedLine, ...] = ()
    refusal: StockRefusal | None = None
    details: tuple[LineDetail, ...] = ()


class Barred(NamedTuple):
    """An order that the counters turned away before anything was locked for it."""

    reason: StockRefusal
    details: tuple[LineDetail, ...]


class Movement(NamedTuple):
    """One entry of the ledger: `quantity` units of a product moved by a command."""

    command_id: str
    product_id: str
    kind: MovementKind
    quantity: int
    reason: str | None = None


def new_rows(rows: Mapping[str, _Row], loaded: Mapping[str, _Row]) -> list[_Row]:
    """What wasn't there when the chunk was loaded, in key order."""
    return [rows[key] for key in sorted(rows.keys() - loaded.keys())]


def changed_rows(rows: Mapping[str, _Row], loaded: Mapping[str, _Row]) -> list[_Row]:
    """What was loaded and is another record by now, in key order."""
    return [rows[key] for key in sorted(loaded) if rows[key] is not loaded[key]]


def fallen_rows(
    rows: Mapping[str, Product], loaded: Mapping[str, Product], units: int
) -> list[Product]:
    """Products that had more than `units` available when the chunk was loaded and have no longer,
    in key order: each is found once, until it has risen above again. 0 finds none."""
    return [
        row
        for row in changed_rows(rows, loaded)
        if loaded[row.product_id].available > units >= row.available and units
    ]


def void_counters(products: dict[str, Product], product_ids: Iterable[str]) -> None:
    """Raise the generation of those that are sold by a counter, past the one that a counter may
    have been written under by somebody who could not commit."""
    for product_id in set(product_ids):
        product = products[product_id]
        if product.active is StockStrategy.REDIS:
            products[product_id] = product._replace(generation=product.generation + 2)
