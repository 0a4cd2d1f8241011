"""Records as who follows topics takes them, without a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiokafka import ConsumerRecord

from shared.contracts.stock import ProductPut, StockLevel, StockStrategy
from shared.contracts.topics import TOPICS
from shared.testing.builders import CURRENCY, PRICE, PRODUCT, new_id

if TYPE_CHECKING:
    from shared.contracts.base import Message

AT = datetime(2026, 1, 1, tzinfo=UTC)


def heard(topic: str, message: Message) -> ConsumerRecord[bytes | None, bytes | None]:
    """The record of a message."""
    return record(topic, TOPICS[topic].key_of(message), message.to_bytes())


def record(topic: str, key: str, value: bytes | None) -> ConsumerRecord[bytes | None, bytes | None]:
    """A record that may hold anything."""
    return ConsumerRecord(
        topic=topic, partition=0, offset=0, timestamp=0, timestamp_type=0, key=key.encode(),
        value=value, checksum=None, serialized_key_size=len(key),
        serialized_value_size=len(value or b""), headers=(),
    )  # fmt: skip


def level(product_id: str = PRODUCT, version: int = 1, available: int = 5) -> StockLevel:
    """A product's level, of which all is available."""
    return StockLevel(
        product_id=product_id, available=available, reserved=0, sold=0, received=available,
        version=version, at=AT,
    )  # fmt: skip


def level_heard(
    product_id: str = PRODUCT, version: int = 1, available: int = 5
) -> ConsumerRecord[bytes | None, bytes | None]:
    """The record of a level."""
    return heard("stock.levels.v1", level(product_id, version, available))


def put_heard(product_id: str = PRODUCT) -> ConsumerRecord[bytes | None, bytes | None]:
    """The record that says that a product was put."""
    put = ProductPut(
        command_id=new_id("product"), product_id=product_id, name="Lamp", price=PRICE,
        currency=CURRENCY, strategy=StockStrategy.OPTIMISTIC, received=1,
    )  # fmt: skip
    return heard("stock.events.v1", put)
