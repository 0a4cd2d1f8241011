"""Fixtures of one Valkey database for the tests of a module: emptied before each. A folder's
conftest imports them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from shared.testing.valkey import claimed_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.valkey import Valkey

__all__ = ["module_valkey", "valkey"]


class Environment(Protocol):
    """What the suite's servers are found by."""

    @property
    def redis_url(self) -> str:
        """Where Valkey is."""
        ...


@pytest.fixture(scope="module")
async def module_valkey(environment: Environment) -> AsyncIterator[Valkey]:
    """A database number of the module's own."""
    async with claimed_database(environment.redis_url) as valkey:
        yield valkey


@pytest.fixture
async def valkey(module_valkey: Valkey) -> Valkey:
    """It, empty."""
    await module_valkey.client.flushdb()
    return module_valkey
