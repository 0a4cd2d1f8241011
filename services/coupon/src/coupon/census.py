"""Counts the campaigns, for the gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coupon.metrics import CAMPAIGNS
from coupon.store import queries
from shared.contracts.coupon import CampaignLife

if TYPE_CHECKING:
    from shared.database import Pool

CENSUS_INTERVAL_S: Final = 10.0


class Census:
    """One count after the other."""

    def __init__(self, pool: Pool) -> None:
        """Read through `pool`."""
        self._pool = pool

    async def run_once(self) -> None:
        """Set the gauges."""
        async with self._pool.acquire() as connection:
            rows = await queries.count_campaigns.rows(connection)
        counts = {row["life"]: row["campaigns"] for row in rows}
        for life in CampaignLife:
            CAMPAIGNS.labels(life).set(counts.get(life, 0))
