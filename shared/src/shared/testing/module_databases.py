"""Fixtures of one database for the tests of a module: emptied after each, which is faster than a
new one. A folder's conftest imports those that its tests are to have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shared.testing.databases import Database, Template

__all__ = ["database", "module_database", "plain_logs"]


@pytest.fixture(scope="module")
async def module_database(template: Template) -> AsyncIterator[Database]:
    """The module's own; what a test adds beside the tables of `stock` stays."""
    async with template.clone() as database:
        yield database


@pytest.fixture
async def database(module_database: Database) -> AsyncIterator[Database]:
    """Its schema `stock` is empty at the start of each test; the others stay empty."""
    yield module_database
    await module_database.empty("stock")


@pytest.fixture(autouse=True, scope="module")
def plain_logs() -> Iterator[None]:
    """What is dead-lettered here is logged with its trace, which is slow to draw in colours."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()
