"""Whole instances of stock between a broker and a database of a module's own.

A process takes seconds to start, so a module's tests share what they can and tell themselves apart
by their ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.stock import StockLevel
from shared.contracts.topics import TOPICS
from shared.testing.builders import new_id, put_product
from shared.testing.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager

    from local_stack import Environment
    from shared.contracts.base import Message
    from shared.testing.databases import Template

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"
ADMIN = "stock.admin.v1"
EVENTS = "stock.events.v1"
LEVELS = "stock.levels.v1"
LETTERS = "stock.dlq.v1"
ADMIN_LETTERS = "stock-requests.dlq.v1"


class Shop(Deployment):
    """A database, topics, and the instances of stock between them."""

    service = "stock"
    groups = ("stock", "stock-requests")

    async def publish(self, *commands: Message) -> None:
        await self.topics.publish(COMMANDS, commands)

    async def put(self, quantity: int = 100, *, count: int = 1, **fields: Any) -> list[str]:
        """New products; returns their ids once stock has them."""
        commands = [put_product(new_id("P"), quantity=quantity, **fields) for _ in range(count)]
        await self.topics.publish(ADMIN, commands)
        await self.said(EVENTS, {command.command_id for command in commands})
        return [command.product_id for command in commands]

    async def verdicts(self, commands: Iterable[Message], **how: Any) -> list[Message]:
        """The one reply of each command."""
        return await self.answers(REPLIES, commands, **how)

    async def counters(self, product_id: str) -> tuple[int, ...]:
        """Available, reserved, sold, received."""
        async with self.database.connection("stock") as connection:
            row = await connection.fetchrow(
                "SELECT available, reserved, sold, received FROM product WHERE product_id = $1",
                product_id,
            )
        assert row is not None
        return tuple(row)

    def lock_held(self, product_id: str) -> AbstractAsyncContextManager[None]:
        """The product's row is locked by somebody else, as long as it takes."""
        return self.rows_locked("product", "product_id", product_id)

    async def levels(self) -> dict[str, StockLevel]:
        """The last record of each product on the feed, as a compacted topic keeps it."""
        reader = reader_of(TOPICS[LEVELS])
        found: dict[str, StockLevel] = {}
        for record in await self.topics.read(LEVELS):
            level = reader.read(record.value)
            assert not isinstance(level, Unreadable), level
            assert isinstance(level, StockLevel)
            found[level.product_id] = level
        return found


@pytest.fixture(scope="module")
async def shop(
    template: Template, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """The module's own shop; no instance runs yet."""
    folder = tmp_path_factory.mktemp("stock")
    async with Shop.deployed(template, environment, folder) as shop:
        yield shop


@pytest.fixture
async def running(shop: Shop) -> AsyncIterator[None]:
    """stock-0 runs, and the invariants hold after each test."""
    await shop.start(0)
    yield
    await shop.check()
