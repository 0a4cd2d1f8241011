"""Contracts of the stock service: commands and replies of the saga, administration, the feed."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator

from shared.contracts.base import (
    MAX_LINES,
    MAX_UNITS,
    Currency,
    DerivedId,
    Id,
    Message,
    Name,
    Note,
    NullMeans,
    Price,
    Quantity,
    Timestamp,
    Total,
    Units,
    Version,
    rising,
)
from shared.contracts.effects import Effect
from shared.contracts.order_parts import Line, LineDetail, PricedLine


class StockStrategy(StrEnum):
    OPTIMISTIC = "optimistic"
    PESSIMISTIC = "pessimistic"
    REDIS = "redis"
    AUTO = "auto"


class WhenRedisDown(StrEnum):
    POSTGRES = "postgres"
    CLOSED = "closed"


class StockRefusal(StrEnum):
    """Why nothing was reserved, or committed. Closed.

    The order's outcome takes `out_of_stock`, `unknown_product`, `temporarily_unavailable` and
    `currency_mismatch` under the same names, and `over_order_limit` as `out_of_stock`. The last
    two never become an outcome: the saga's own undo, or its own mistake, came before.
    """

    OUT_OF_STOCK = "out_of_stock"
    UNKNOWN_PRODUCT = "unknown_product"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    CURRENCY_MISMATCH = "currency_mismatch"
    OVER_ORDER_LIMIT = "over_order_limit"
    """More than the product's `maxPerOrder`, which stands as `available` in the details."""
    ALREADY_RELEASED = "already_released"
    """`ReleaseStock` came first and left its tombstone."""
    NOT_RESERVED = "not_reserved"
    """Said of a `CommitStock` that finds no live reservation."""


class ReserveStock(Message):
    """All lines or none. `items` are sorted by product id, each product once."""

    type: Literal["ReserveStock"] = "ReserveStock"
    command_id: DerivedId
    order_id: Id
    user_id: Id
    items: Annotated[tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES, fail_fast=True)]

    @field_validator("items")
    @classmethod
    def _sorted_and_distinct(cls, items: tuple[Line, ...]) -> tuple[Line, ...]:
        if len(items) > 1 and not rising(line.product_id for line in items):
            raise ValueError("products must be sorted by id, each once")
        return items


class CommitStock(Message):
    type: Literal["CommitStock"] = "CommitStock"
    command_id: DerivedId
    order_id: Id


class ReleaseStock(Message):
    type: Literal["ReleaseStock"] = "ReleaseStock"
    command_id: DerivedId
    order_id: Id


class StockReserved(Message):
    """`items` as in the command, with the catalogue's prices at that moment."""

    type: Literal["StockReserved"] = "StockReserved"
    command_id: DerivedId
    order_id: Id
    items: Annotated[
        tuple[PricedLine, ...], Field(min_length=1, max_length=MAX_LINES, fail_fast=True)
    ]
    currency: Currency


class StockRefused(Message):
    """It did not happen and never will. `details` names the lines that stood in the way."""

    type: Literal["StockRefused"] = "StockRefused"
    command_id: DerivedId
    order_id: Id
    reason: StockRefusal
    details: Annotated[
        tuple[LineDetail, ...], Field(max_length=MAX_LINES, fail_fast=True), NullMeans(())
    ] = ()


class StockCommitted(Message):
    type: Literal["StockCommitted"] = "StockCommitted"
    command_id: DerivedId
    order_id: Id


class StockReleased(Message):
    type: Literal["StockReleased"] = "StockReleased"
    command_id: DerivedId
    order_id: Id
    effect: Effect


class PutProduct(Message):
    """Creates or replaces what the catalogue says of a product.

    `quantity` is received when the product is new and ignored otherwise.
    """

    type: Literal["PutProduct"] = "PutProduct"
    command_id: Id
    product_id: Id
    name: Name
    price: Price
    currency: Currency
    strategy: StockStrategy
    quantity: Annotated[Units, NullMeans(0)] = 0
    when_redis_down: Annotated[WhenRedisDown, NullMeans(WhenRedisDown.POSTGRES)] = (
        WhenRedisDown.POSTGRES
    )
    max_per_order: Quantity | None = None


class AdjustStock(Message):
    """Receives (`delta` above 0) or writes off (below 0) units that are available."""

    type: Literal["AdjustStock"] = "AdjustStock"
    command_id: Id
    product_id: Id
    delta: Annotated[int, Field(ge=-MAX_UNITS, le=MAX_UNITS)]
    reason: Note

    @field_validator("delta")
    @classmethod
    def _something(cls, delta: int) -> int:
        if delta == 0:
            raise ValueError("0 adjusts nothing")
        return delta


class SetStockStrategy(Message):
    type: Literal["SetStockStrategy"] = "SetStockStrategy"
    command_id: Id
    product_id: Id
    strategy: StockStrategy


class ProductPut(Message):
    """`received` is the product's total ever, after the command."""

    type: Literal["ProductPut"] = "ProductPut"
    command_id: Id
    product_id: Id
    name: Name
    price: Price
    currency: Currency
    strategy: StockStrategy
    received: Total


class StockAdjusted(Message):
    """`available` is after the adjustment."""

    type: Literal["StockAdjusted"] = "StockAdjusted"
    command_id: Id
    product_id: Id
    delta: Annotated[int, Field(ge=-MAX_UNITS, le=MAX_UNITS)]
    available: Total


class StockStrategySet(Message):
    type: Literal["StockStrategySet"] = "StockStrategySet"
    command_id: Id
    product_id: Id
    strategy: StockStrategy


class StockLow(Message):
    """`available` fell to `threshold` or below; `version` is the product's."""

    identity = "level_id"
    type: Literal["StockLow"] = "StockLow"
    product_id: Id
    available: Total
    threshold: Total
    version: Version
    at: Timestamp

    @property
    def level_id(self) -> str:
        return f"{self.product_id}:{self.version}"


class StockLevel(Message):
    """State, not history: the highest `version` of a product counts."""

    identity = "level_id"
    type: Literal["StockLevel"] = "StockLevel"
    product_id: Id
    available: Total
    reserved: Total
    sold: Total
    received: Total
    version: Version
    at: Timestamp

    @property
    def level_id(self) -> str:
        return f"{self.product_id}:{self.version}"
