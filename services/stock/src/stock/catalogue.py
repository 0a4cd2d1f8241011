"""What operators decide of products: the catalogue, receipts and write-offs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, assert_never

from shared.contracts.base import MAX_TOTAL
from shared.contracts.refusals import CommandRefusal, Refused
from shared.contracts.stock import (
    AdjustStock,
    ProductPut,
    PutProduct,
    SetStockStrategy,
    StockAdjusted,
    StockStrategy,
    StockStrategySet,
)
from stock.records import (
    Movement,
    MovementKind,
    Product,
    changed_rows,
    fallen_rows,
    new_rows,
    void_counters,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AdminCommand: TypeAlias = PutProduct | AdjustStock | SetStockStrategy
AdminEvent: TypeAlias = ProductPut | StockAdjusted | StockStrategySet


class CatalogueFold:
    """A chunk of operators' commands in memory. Duplicates don't come here: the pipeline keeps
    their answers."""

    def __init__(self, products: Iterable[Product], currency: str) -> None:
        """Start from the locked products that the chunk names; `currency` is the deployment's."""
        self._products = {product.product_id: product for product in products}
        self._loaded_products = dict(self._products)
        self._currency = currency
        self.movements: list[Movement] = []

    def apply(self, command: AdminCommand) -> AdminEvent | Refused:
        """Decide a command."""
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
    def products(self) -> Mapping[str, Product]:
        """The products as they are by now."""
        return self._products

    @property
    def new_products(self) -> list[Product]:
        """Products that weren't there, in key order."""
        return new_rows(self._products, self._loaded_products)

    @property
    def changed_products(self) -> list[Product]:
        """Products that were loaded and changed, in key order."""
        return changed_rows(self._products, self._loaded_products)

    def fallen_products(self, units: int) -> list[Product]:
        """Products that fell to `units` available or below, in key order."""
        return fallen_rows(self._products, self._loaded_products, units)

    def void_counters(self) -> None:
        """No counter can follow what was moved: nobody is admitted by them any more."""
        void_counters(self._products, [one.product_id for one in self.movements])

    def _put(self, command: PutProduct) -> ProductPut | Refused:
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
                version=1, active=_at_first(command.strategy), epoch=1, generation=1,
            )  # fmt: skip
            if command.quantity:
                self.movements.append(
                    Movement(
                        command.command_id, command.product_id, MovementKind.RECEIVED,
                        command.quantity,
                    )
                )  # fmt: skip
        else:
            product = product.under(command.strategy)._replace(
                name=command.name,
                price=command.price,
                when_redis_down=command.when_redis_down,
                max_per_order=command.max_per_order,
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
        self._products[product.product_id] = product.under(command.strategy)
        return StockStrategySet(
            command_id=command.command_id,
            product_id=product.product_id,
            strategy=command.strategy,
        )


def _at_first(strategy: StockStrategy) -> StockStrategy:
    return StockStrategy.OPTIMISTIC if strategy is StockStrategy.AUTO else strategy


def _unknown(product_id: str) -> Refused:
    return Refused(
        CommandRefusal.UNKNOWN_PRODUCT,
        f"there is no product {product_id}; put it first, with PutProduct on stock.admin.v1",
    )
