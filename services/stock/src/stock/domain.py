"""Stock's decisions: what a command does to products and reservations. Pure.

    ReserveStock ──▶ RESERVED ──CommitStock──▶ COMMITTED
         │               └──────ReleaseStock──▶ RELEASED
         └──▶ REFUSED                ReleaseStock of nothing ──▶ TOMBSTONE

`available + reserved + sold = received` holds for each product after every command, and none of
them is negative. The first verdict on an order is final: a refused one stays refused when the
stock comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from shared.contracts.base import MAX_TOTAL
from shared.contracts.effects import Effect
from shared.contracts.order_parts import LineDetail, PricedLine
from shared.contracts.refusals import CommandRefusal
from shared.contracts.stock import (
    AdjustStock,
    CommitStock,
    ProductPut,
    PutProduct,
    ReleaseStock,
    ReserveStock,
    SetStockStrategy,
    StockAdjusted,
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
    StockStrategy,
    StockStrategySet,
    WhenRedisDown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

AVAILABLE_STRATEGIES: Final = frozenset({StockStrategy.OPTIMISTIC})

SagaCommand: TypeAlias = ReserveStock | CommitStock | ReleaseStock
SagaReply: TypeAlias = StockReserved | StockRefused | StockCommitted | StockReleased
AdminCommand: TypeAlias = PutProduct | AdjustStock | SetStockStrategy
AdminEvent: TypeAlias = ProductPut | StockAdjusted | StockStrategySet


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


@dataclass(frozen=True, slots=True)
class Product:
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

    def moved(
        self, *, available: int = 0, reserved: int = 0, sold: int = 0, received: int = 0
    ) -> Product:
        """The product after its counters changed by these amounts: one version later."""
        return Product(
            self.product_id, self.name, self.price, self.currency, self.strategy,
            self.when_redis_down, self.max_per_order, self.available + available,
            self.reserved + reserved, self.sold + sold, self.received + received,
            self.version + 1,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was decided for an order, kept for good so that it can be said again."""

    order_id: str
    state: ReservationState
    lines: tuple[PricedLine, ...] = ()
    refusal: StockRefusal | None = None
    details: tuple[LineDetail, ...] = ()


@dataclass(frozen=True, slots=True)
class Movement:
    """One entry of the ledger: `quantity` units of a product moved by a command."""

    command_id: str
    product_id: str
    kind: MovementKind
    quantity: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An operator's command that can't be obeyed, and what to do instead."""

    reason: CommandRefusal
    detail: str


class Fold:
    """A chunk in memory: commands change it one by one, and it knows what is to be saved."""

    def __init__(
        self, products: Iterable[Product], reservations: Iterable[Reservation], currency: str
    ) -> None:
        """Start from the rows that the chunk touches; `currency` is the deployment's."""
        self._products = {product.product_id: product for product in products}
        self._reservations = {row.order_id: row for row in reservations}
        self._loaded_products = dict(self._products)
        self._loaded_reservations = dict(self._reservations)
        self._currency = currency
        self.movements: list[Movement] = []

    def apply(self, command: SagaCommand) -> SagaReply:
        """Decide a command of the saga. One that was decided before gets the same reply again."""
        match command:
            case ReserveStock():
                return self._reserve(command)
            case CommitStock():
                return self._commit(command)
            case ReleaseStock():
                return self._release(command)
            case _:
                assert_never(command)

    def administer(self, command: AdminCommand) -> AdminEvent | Refused:
        """Decide an operator's command."""
        match command:
            case PutProduct():
                return self._put(command)
            case AdjustStock():
                return self._adjust(command)
            case SetStockStrategy():
                return self._set_strategy(command)
            case _:
                assert_never(command)

    @property
    def changed_products(self) -> list[Product]:
        """Products that were loaded and changed, in key order."""
        return [
            product
            for key, product in sorted(self._products.items())
            if key in self._loaded_products and product is not self._loaded_products[key]
        ]

    @property
    def new_products(self) -> list[Product]:
        """Products that weren't there, in key order."""
        return [
            product
            for key, product in sorted(self._products.items())
            if key not in self._loaded_products
        ]

    @property
    def new_reservations(self) -> list[Reservation]:
        """Orders decided for the first time, in key order."""
        return [
            row
            for key, row in sorted(self._reservations.items())
            if key not in self._loaded_reservations
        ]

    @property
    def changed_reservations(self) -> list[Reservation]:
        """Orders that were loaded and changed, in key order."""
        return [
            row
            for key, row in sorted(self._reservations.items())
            if key in self._loaded_reservations and row is not self._loaded_reservations[key]
        ]

    def _reserve(self, command: ReserveStock) -> StockReserved | StockRefused:
        reservation = self._reservations.get(command.order_id)
        if reservation is None:
            reservation = self._decide(command)
            self._reservations[command.order_id] = reservation
            for line in reservation.lines:
                self._move(
                    command.command_id, line, MovementKind.RESERVED,
                    available=-line.quantity, reserved=line.quantity,
                )  # fmt: skip
        return _verdict(command, reservation, self._currency)

    def _decide(self, command: ReserveStock) -> Reservation:
        """All lines or none; the refusal names every line that stood in the way."""
        lines: list[PricedLine] = []
        unknown: list[LineDetail] = []
        over: list[LineDetail] = []
        short: list[LineDetail] = []
        for item in command.items:
            product = self._products.get(item.product_id)
            if product is None:
                unknown.append(_detail(item.product_id, item.quantity, 0))
            elif product.max_per_order is not None and item.quantity > product.max_per_order:
                over.append(_detail(item.product_id, item.quantity, product.max_per_order))
            elif item.quantity > product.available:
                short.append(_detail(item.product_id, item.quantity, product.available))
            else:
                lines.append(
                    PricedLine(
                        product_id=item.product_id,
                        quantity=item.quantity,
                        unit_price=product.price,
                    )
                )
        for reason, details in (
            (StockRefusal.UNKNOWN_PRODUCT, unknown),
            (StockRefusal.OVER_ORDER_LIMIT, over),
            (StockRefusal.OUT_OF_STOCK, short),
        ):
            if details:
                return Reservation(
                    command.order_id,
                    ReservationState.REFUSED,
                    refusal=reason,
                    details=tuple(details),
                )
        return Reservation(command.order_id, ReservationState.RESERVED, tuple(lines))

    def _commit(self, command: CommitStock) -> StockCommitted | StockRefused:
        reservation = self._reservations.get(command.order_id)
        if reservation is None or reservation.state not in (
            ReservationState.RESERVED,
            ReservationState.COMMITTED,
        ):
            return StockRefused(
                command_id=command.command_id,
                order_id=command.order_id,
                reason=StockRefusal.NOT_RESERVED,
            )
        if reservation.state is ReservationState.RESERVED:
            self._end(reservation, ReservationState.COMMITTED)
            for line in reservation.lines:
                self._move(
                    command.command_id, line, MovementKind.COMMITTED,
                    reserved=-line.quantity, sold=line.quantity,
                )  # fmt: skip
        return StockCommitted(command_id=command.command_id, order_id=command.order_id)

    def _release(self, command: ReleaseStock) -> StockReleased:
        reservation = self._reservations.get(command.order_id)
        effect = Effect.NOTHING
        if reservation is None:
            self._reservations[command.order_id] = Reservation(
                command.order_id, ReservationState.TOMBSTONE
            )
        elif reservation.state is ReservationState.RESERVED:
            effect = Effect.UNDONE
            self._end(reservation, ReservationState.RELEASED)
            for line in reservation.lines:
                self._move(
                    command.command_id, line, MovementKind.RELEASED,
                    reserved=-line.quantity, available=line.quantity,
                )  # fmt: skip
        elif reservation.state is ReservationState.RELEASED:
            effect = Effect.UNDONE  # the same reply again
        elif reservation.state is ReservationState.COMMITTED:
            raise ValueError(f"order {command.order_id} is sold and can't be released")
        return StockReleased(
            command_id=command.command_id, order_id=command.order_id, effect=effect
        )

    def _put(self, command: PutProduct) -> ProductPut | Refused:
        if command.strategy not in AVAILABLE_STRATEGIES:
            return _strategy_unavailable(command.strategy)
        if command.currency != self._currency:
            return Refused(
                CommandRefusal.CURRENCY_MISMATCH,
                f"prices are in {self._currency} here, not in {command.currency}",
            )
        product = self._products.get(command.product_id)
        if product is None:
            product = Product(
                command.product_id, command.name, command.price, command.currency,
                command.strategy, command.when_redis_down, command.max_per_order,
                available=command.quantity, reserved=0, sold=0, received=command.quantity,
                version=1,
            )  # fmt: skip
            if command.quantity:
                self.movements.append(
                    Movement(
                        command.command_id, command.product_id, MovementKind.RECEIVED,
                        command.quantity,
                    )
                )  # fmt: skip
        else:
            product = replace(
                product,
                name=command.name,
                price=command.price,
                strategy=command.strategy,
                when_redis_down=command.when_redis_down,
                max_per_order=command.max_per_order,
                version=product.version + 1,
            )
        self._products[command.product_id] = product
        return ProductPut(
            command_id=command.command_id,
            product_id=product.product_id,
            name=product.name,
            price=product.price,
            currency=product.currency,
            strategy=product.strategy,
            received=product.received,
        )

    def _adjust(self, command: AdjustStock) -> StockAdjusted | Refused:
        product = self._products.get(command.product_id)
        if product is None:
            return _unknown(command.product_id)
        if product.available + command.delta < 0:
            return Refused(
                CommandRefusal.INSUFFICIENT_STOCK,
                f"{product.available} units of {product.product_id} are available;"
                f" {-command.delta} can't be written off",
            )
        if product.received + command.delta > MAX_TOTAL:
            return Refused(
                CommandRefusal.LIMIT_EXCEEDED,
                f"{product.product_id} would have received more than {MAX_TOTAL} units",
            )
        product = product.moved(available=command.delta, received=command.delta)
        self._products[product.product_id] = product
        self.movements.append(
            Movement(
                command.command_id, product.product_id, MovementKind.ADJUSTED, command.delta,
                command.reason,
            )
        )  # fmt: skip
        return StockAdjusted(
            command_id=command.command_id,
            product_id=product.product_id,
            delta=command.delta,
            available=product.available,
        )

    def _set_strategy(self, command: SetStockStrategy) -> StockStrategySet | Refused:
        product = self._products.get(command.product_id)
        if product is None:
            return _unknown(command.product_id)
        if command.strategy not in AVAILABLE_STRATEGIES:
            return _strategy_unavailable(command.strategy)
        self._products[product.product_id] = replace(
            product, strategy=command.strategy, version=product.version + 1
        )
        return StockStrategySet(
            command_id=command.command_id,
            product_id=product.product_id,
            strategy=command.strategy,
        )

    def _end(self, reservation: Reservation, state: ReservationState) -> None:
        self._reservations[reservation.order_id] = replace(reservation, state=state)

    def _move(
        self, command_id: str, line: PricedLine, kind: MovementKind,
        *, available: int = 0, reserved: int = 0, sold: int = 0,
    ) -> None:  # fmt: skip
        product = self._products[line.product_id]
        self._products[line.product_id] = product.moved(
            available=available, reserved=reserved, sold=sold
        )
        self.movements.append(Movement(command_id, line.product_id, kind, line.quantity))


def _verdict(
    command: ReserveStock, reservation: Reservation, currency: str
) -> StockReserved | StockRefused:
    if reservation.lines:
        return StockReserved(
            command_id=command.command_id,
            order_id=command.order_id,
            items=reservation.lines,
            currency=currency,
        )
    return StockRefused(
        command_id=command.command_id,
        order_id=command.order_id,
        reason=reservation.refusal or StockRefusal.ALREADY_RELEASED,
        details=reservation.details,
    )


def _detail(product_id: str, requested: int, available: int) -> LineDetail:
    return LineDetail(product_id=product_id, requested=requested, available=available)


def _unknown(product_id: str) -> Refused:
    return Refused(
        CommandRefusal.UNKNOWN_PRODUCT, f"there is no product {product_id}; put it first"
    )


def _strategy_unavailable(strategy: StockStrategy) -> Refused:
    known = ", ".join(sorted(AVAILABLE_STRATEGIES))
    return Refused(
        CommandRefusal.STRATEGY_UNAVAILABLE,
        f"the strategy {strategy} isn't available in this version; use one of: {known}",
    )
