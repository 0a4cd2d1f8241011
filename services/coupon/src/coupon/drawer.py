"""Gives the winners of drawn lotteries their coupons, a batch at a time.

Who wins is certain once the draw is committed. Each batch is a transaction of its own that goes on
where the last one ended, whoever did that, so that a hundred thousand winners hold nobody up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from coupon.handlers import EVENTS
from coupon.lottery_store import LotteryStore
from coupon.metrics import ISSUED
from coupon.records import Coupon, CouponState
from coupon.store import Store
from shared.contracts.base import message_id
from shared.contracts.coupon import CouponIssued
from shared.pipeline import Committed, Outgoing
from shared.pipeline.sweeper import Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database import Connection, Write
    from shared.pipeline.work import Work

WINNERS_AT_ONCE: Final = 500


class Drawer:
    """One batch after the other, of one lottery after the other. Any number of instances may be at
    it: one locks the campaign, the others pass it by."""

    def __init__(self, work: Work) -> None:
        """Write through `work`."""
        self._work = work

    async def run_once(self) -> Swept:
        """Issue one batch."""
        issued = await self._work.run(self._issue)
        return Swept(issued, more=issued > 0)

    async def _issue(
        self, connection: Connection
    ) -> tuple[int, Sequence[Outgoing | Write | Committed]]:
        lotteries, store = LotteryStore(connection), Store(connection)
        owing = await lotteries.lock_owing()
        if owing is None:
            return 0, []
        at_most = min(WINNERS_AT_ONCE, owing.winners - owing.issued)
        winners = list(enumerate(await lotteries.next_winners(owing, at_most), owing.issued + 1))
        now = await store.read_clock()
        coupons = [
            Coupon(owing.coupon_id, one.user_id, rank, CouponState.ISSUED, None, now)
            for rank, one in winners
        ]
        events = [
            CouponIssued(
                command_id=one.command_id,
                coupon_id=owing.coupon_id,
                user_id=one.user_id,
                sequence=rank,
                issued_at=now,
            )
            for rank, one in winners
        ]
        return len(winners), [
            store.insert_coupons(coupons),
            lotteries.issue_to_winners(owing, owing.issued + len(winners)),
            *(Outgoing(EVENTS, owing.coupon_id, event, message_id(event), "") for event in events),
            Committed(partial(ISSUED.inc, len(winners))),
        ]
