"""One database for the tests of a module: emptied after each, which is faster than a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shared.testing.databases import Database, Template

TABLES = """
SELECT string_agg(format('%I', tablename), ', ')
FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'schema_migration'
"""


@pytest.fixture(autouse=True, scope="module")
def plain_logs() -> Iterator[None]:
    """What is dead-lettered here is logged with its trace, which is slow to draw in colours."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
async def module_database(template: Template) -> AsyncIterator[Database]:
    async with template.clone() as database:
        yield database


@pytest.fixture
async def database(module_database: Database) -> AsyncIterator[Database]:
    """Its schema `stock` is empty at the start of each test; the others stay empty."""
    yield module_database
    async with module_database.connection("stock") as connection:
        await connection.execute(f"TRUNCATE {await connection.fetchval(TABLES)} RESTART IDENTITY")
