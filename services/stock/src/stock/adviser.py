"""Chooses the strategy of products that are set to `auto`, and forgets old measurements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shared.telemetry.logs import get_logger
from stock.advice import WINDOW_S, advise
from stock.metrics import SWITCHES
from stock.store import Store
from stock.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.contracts.stock import StockStrategy
    from shared.database import Connection, Write
    from shared.lease import Lease
    from shared.pipeline import Committed, Outgoing
    from shared.pipeline.work import Work
    from stock.domain import Product

_log = get_logger(__name__)

LEASE: Final = "stock.adviser"
KEPT_S: Final = 600


class Adviser:
    """One pass after the other; only the holder of the lease acts."""

    def __init__(self, work: Work, lease: Lease) -> None:
        """`lease` lasts several passes."""
        self._work = work
        self._lease = lease
        self._switched_at_s: dict[str, float] = {}
        """What was measured before a switch says nothing of what came after."""

    async def run_once(self) -> int:
        """Switch what is to be switched; returns how many products."""
        if await self._lease.take() is None:
            return 0
        switched = await self._work.run(self._switch)
        for product_id, strategy in switched.items():
            self._switched_at_s[product_id] = time.monotonic()
            SWITCHES.labels(strategy.value).inc()
            _log.info("strategy_switched", product=product_id, to=strategy.value)
        return len(switched)

    async def _switch(
        self, connection: Connection
    ) -> tuple[Mapping[str, StockStrategy], list[Outgoing | Write | Committed]]:
        store = Store(connection)
        await store.forget_contention(KEPT_S)
        since = time.monotonic() - WINDOW_S
        self._switched_at_s = {
            product_id: at_s for product_id, at_s in self._switched_at_s.items() if at_s > since
        }
        measured = await store.contention(WINDOW_S)
        changed: list[Product] = []
        for product in await store.auto_products(measured):
            told = measured.get(product.product_id, Tally())
            strategy = advise(told, product.active).strategy
            if strategy is not product.active and product.product_id not in self._switched_at_s:
                changed.append(product.working_by(strategy))
        writes: list[Outgoing | Write | Committed] = []
        if changed:
            writes.append(store.update_products(changed))
        return {one.product_id: one.active for one in changed}, writes
