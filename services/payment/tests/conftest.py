"""What tests of payment share."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING

import pytest

from payment.consumers import routes
from payment.outcomes import Outcomes
from shared.database.pool import connect_pool
from shared.testing.replicas import Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.testing.databases import Database
    from shared.testing.valkey import Valkey

CURRENCY = "KRW"


@pytest.fixture
async def replica(
    database: Database, valkey: Valkey
) -> AsyncIterator[Callable[[], Awaitable[Replica]]]:
    """Makes instances on the test's database."""
    async with AsyncExitStack() as stack:
        numbers = count()

        async def make() -> Replica:
            owner = f"payment-{next(numbers)}"
            outcomes = Outcomes(valkey.url)
            stack.push_async_callback(outcomes.close)
            pool = connect_pool(database.dsn("payment"), name=owner, max_connections=4)
            return Replica(
                owner, await stack.enter_async_context(pool), routes(CURRENCY, None, outcomes)
            )

        yield make
