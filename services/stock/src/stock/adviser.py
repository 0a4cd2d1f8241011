"""Chooses the strategy of products that are set to `auto`, and forgets old measurements."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from shared.telemetry.logs import get_logger
from stock.advice import WINDOW_S, advise
from stock.metrics import SWITCHES
from stock.store import Store
from stock.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.database import Connection, Pool, Write
    from shared.lease import Lease
    from shared.pipeline import Committed, Outgoing
    from shared.pipeline.work import Work
    from stock.records import Product

_log = get_logger(__name__)

LEASE: Final = "stock.adviser"
KEPT_S: Final = 600


class Adviser:
    """One pass after the other; only the holder of the lease acts."""

    def __init__(self, pool: Pool, work: Work, lease: Lease) -> None:
        """`lease` lasts several passes."""
        self._pool = pool
        self._work = work
        self._lease = lease
        self._switched_at_s: dict[str, float] = {}
        """What was measured before a switch says nothing of what came after."""

    async def run_once(self) -> int:
        """Switch what is to be switched; returns how many products."""
        if await self._lease.take() is None:
            return 0
        since_s = time.monotonic() - WINDOW_S
        self._switched_at_s = {
            product_id: at_s for product_id, at_s in self._switched_at_s.items() if at_s > since_s
        }
        async with self._pool.acquire() as connection:
            store = Store(connection)
            await store.forget_contention(KEPT_S)
            measured = await store.contention(WINDOW_S)
            chosen = self._chosen(measured, await store.auto_products(measured))
        if not chosen:
            return 0
        switched = await self._work.run(partial(self._switch, measured))
        for product in switched:
            self._switched_at_s[product.product_id] = time.monotonic()
            SWITCHES.labels(product.active.value).inc()
            _log.info("strategy_switched", product=product.product_id, to=product.active.value)
        return len(switched)

    async def _switch(
        self, measured: Mapping[str, Tally], connection: Connection
    ) -> tuple[list[Product], list[Outgoing | Write | Committed]]:
        """Decide once more on the locked rows."""
        store = Store(connection)
        changed = self._chosen(measured, await store.lock_auto_products(measured))
        return changed, [store.update_products(changed)] if changed else []

    def _chosen(self, measured: Mapping[str, Tally], products: Iterable[Product]) -> list[Product]:
        """Those that are to work by another strategy, with it."""
        changed = []
        for product in products:
            told = measured.get(product.product_id, Tally())
            strategy = advise(told, product.active).strategy
            if strategy is not product.active and product.product_id not in self._switched_at_s:
                changed.append(product.working_by(strategy))
        return changed
