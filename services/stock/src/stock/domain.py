"""Stock's decisions: what a command does to products and reservations. Pure.

    ReserveStock ──▶ RESERVED ──CommitStock──▶ COMMITTED
         │               └──────ReleaseStock──▶ RELEASED
         └──▶ REFUSED                ReleaseStock of nothing ──▶ TOMBSTONE

`available + reserved + sold = received` holds for each product after every command, and none of
them is negative. The first verdict on an order is final: a refused one stays refused when the
stock comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, assert_never

from shared.contracts.effects import Effect
from shared.contracts.order_parts import LineDetail, PricedLine
from shared.contracts.stock import (
    CommitStock,
    ReleaseStock,
    ReserveStock,
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
)
from stock.records import (
    Barred,
    Movement,
    MovementKind,
    Product,
    Reservation,
    ReservationState,
    changed_rows,
    fallen_rows,
    new_rows,
    void_counters,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SagaCommand: TypeAlias = ReserveStock | CommitStock | ReleaseStock
SagaReply: TypeAlias = StockReserved | StockRefused | StockCommitted | StockReleased


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

    def apply(self, command: SagaCommand, barred: Barred | None = None) -> SagaReply:
        """Decide a command of the saga. One that was decided before gets the same reply again.

        `barred` is what a `ReserveStock` is refused with that has no verdict yet.
        """
        match command:
            case ReserveStock():
                return self._reserve(command, barred)
            case CommitStock():
                return self._commit(command)
            case ReleaseStock():
                return self._release(command)
            case _:
                assert_never(command)

    @property
    def products(self) -> Mapping[str, Product]:
        """The products as they are by now."""
        return self._products

    @property
    def changed_products(self) -> list[Product]:
        """Products that were loaded and changed, in key order."""
        return changed_rows(self._products, self._loaded_products)

    def fallen_products(self, units: int) -> list[Product]:
        """Products that fell to `units` available or below, in key order."""
        return fallen_rows(self._products, self._loaded_products, units)

    @property
    def new_reservations(self) -> list[Reservation]:
        """Orders decided for the first time, in key order."""
        return new_rows(self._reservations, self._loaded_reservations)

    @property
    def changed_reservations(self) -> list[Reservation]:
        """Orders that were loaded and changed, in key order."""
        return changed_rows(self._reservations, self._loaded_reservations)

    def void_counters(self, product_ids: Iterable[str]) -> None:
        """The counters of these don't know of what was moved: nobody is admitted by them any
        more."""
        void_counters(self._products, product_ids)

    def _reserve(
        self, command: ReserveStock, barred: Barred | None
    ) -> StockReserved | StockRefused:
        reservation = self._reservations.get(command.order_id)
        if reservation is None and barred is not None:
            reservation = Reservation(
                command.order_id, ReservationState.REFUSED,
                refusal=barred.reason, details=barred.details,
            )  # fmt: skip
            self._reservations[command.order_id] = reservation
        elif reservation is None:
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
        if reservation is None:
            # a refusal must stay true when the reservation comes late
            reservation = Reservation(
                command.order_id, ReservationState.REFUSED, refusal=StockRefusal.NOT_RESERVED
            )
            self._reservations[command.order_id] = reservation
        if reservation.state not in (ReservationState.RESERVED, ReservationState.COMMITTED):
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

    def _end(self, reservation: Reservation, state: ReservationState) -> None:
        self._reservations[reservation.order_id] = reservation._replace(state=state)

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
