"""How contended products are: tallied by each instance in memory, added up in Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.database import Pool
    from stock.tally import Tally

PRODUCTS_KEPT: Final = 200
"""Of the products that are contended most: the others need no advice."""


class Contention:
    """Tallies since they were last added up."""

    def __init__(self, pool: Callable[[], Pool]) -> None:
        """Add up through `pool`, which is asked for when it is needed."""
        self._pool = pool
        self._tallies: dict[str, Tally] = {}

    def record(self, tallies: Mapping[str, Tally]) -> None:
        """Take what a chunk told, once it is committed."""
        for product_id, one in tallies.items():
            known = self._tallies.get(product_id)
            self._tallies[product_id] = one if known is None else known.plus(one)

    async def run_once(self) -> int:
        """Add up what was contended most; returns of how many products. What can't be written is
        lost: it is advice, and there will be more."""
        tallies, self._tallies = self._tallies, {}
        contended = {key: one for key, one in tallies.items() if one.is_contended}
        most = sorted(contended, key=lambda key: contended[key][1:], reverse=True)[:PRODUCTS_KEPT]
        if most:
            async with self._pool().acquire() as connection:
                await Store(connection).add_contention({key: contended[key] for key in most})
        return len(most)
