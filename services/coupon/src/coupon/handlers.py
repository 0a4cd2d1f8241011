"""A chunk of commands becomes effects and replies: load, fold, save."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from coupon.campaigns import CampaignFold
from coupon.domain import LIVE_STATES, Fold
from coupon.metrics import ISSUED, REFUSALS
from coupon.store import Store
from shared import crash_points
from shared.contracts.coupon import (
    CouponRefused,
    CouponRequestRefused,
    HoldCoupon,
    IssueCoupon,
)
from shared.pipeline import Committed, Delivery, Outgoing, Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from coupon.campaigns import CampaignCommand
    from coupon.domain import CouponKey, Hold, SagaCommand
    from shared.database import Connection, Write

REPLIES = "coupon.replies.v1"
EVENTS = "coupon.events.v1"


class SagaCommands:
    """Hold, use and restore.

    Orders that race for one coupon queue at its row: whoever comes second finds it held.
    Campaigns are read without locks, since a hold changes nothing in them.
    """

    def __init__(self, currency: str) -> None:
        """`currency` is the deployment's."""
        self._currency = currency

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk and reply to each."""
        store = Store(connection)
        commands = [cast("SagaCommand", delivery.message) for delivery in deliveries]
        holds = await store.lock_holds(command.order_id for command in commands)
        coupons = await store.lock_coupons(_touched(commands, holds))
        campaign_ids = _to_be_held(commands, holds)
        campaigns = await store.read_campaigns(campaign_ids) if campaign_ids else ()
        now = await store.read_clock() if campaigns else None
        crash_points.reach("after_load")

        fold = Fold(campaigns, coupons, holds, currency=self._currency, now=now)
        replies = [fold.apply(command) for command in commands]

        refused = [
            reply.reason
            for delivery, reply in zip(deliveries, replies, strict=True)
            if isinstance(reply, CouponRefused) and not delivery.duplicate
        ]
        return [
            *_saved(store, fold),
            *(
                delivery.answer(REPLIES, reply)
                for delivery, reply in zip(deliveries, replies, strict=True)
            ),
            Committed.count(REFUSALS, refused),
        ]


class CampaignCommands:
    """What operators say of campaigns, and what shops ask of them. The pipeline answers
    duplicates from what it kept.

    A chunk locks each of its campaigns once and gives out all coupons that it asks for: five
    thousand users cost ten visits to the row.
    """

    def __init__(self, currency: str) -> None:
        """`currency` is the deployment's."""
        self._currency = currency

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk; an event for each, or a refusal."""
        store = Store(connection)
        commands = [cast("CampaignCommand", delivery.message) for delivery in deliveries]
        campaigns = await store.lock_campaigns({command.coupon_id for command in commands})
        wanted = {
            (command.coupon_id, command.user_id)
            for command in commands
            if isinstance(command, IssueCoupon)
        }
        coupons = await store.read_coupons(wanted) if wanted else ()
        now = await store.read_clock() if wanted else None
        crash_points.reach("after_load")

        fold = CampaignFold(campaigns, coupons, currency=self._currency, now=now)
        results: list[Outgoing | Write | Refusal | Committed] = []
        refused: list[str] = []
        for delivery, command in zip(deliveries, commands, strict=True):
            event = fold.apply(command)
            if isinstance(event, CouponRequestRefused):
                refused.append(event.reason)
            results.append(delivery.decided(EVENTS, event))

        if fold.new_campaigns:
            results.append(store.insert_campaigns(fold.new_campaigns))
        if fold.changed_campaigns:
            results.append(store.update_campaigns(fold.changed_campaigns))
        if fold.new_coupons:
            results.append(store.insert_coupons(fold.new_coupons))
            results.append(Committed(partial(ISSUED.inc, len(fold.new_coupons))))
        return [*results, Committed.count(REFUSALS, refused)]


def _saved(store: Store, fold: Fold) -> list[Write]:
    """What the fold changed, table by table in the one order that all chunks keep."""
    writes = []
    if fold.new_holds:
        writes.append(store.insert_holds(fold.new_holds))
    if fold.changed_holds:
        writes.append(store.update_holds(fold.changed_holds))
    if fold.changed_coupons:
        writes.append(store.update_coupons(fold.changed_coupons))
    return writes


def _touched(commands: Sequence[SagaCommand], holds: Sequence[Hold]) -> Collection[CouponKey]:
    """The coupons that a chunk may move: those of new holds, and of orders that have one."""
    decided = {hold.order_id for hold in holds}
    touched = {
        (command.coupon_id, command.user_id)
        for command in commands
        if isinstance(command, HoldCoupon) and command.order_id not in decided
    }
    touched.update(hold.key for hold in holds if hold.state in LIVE_STATES)
    return touched


def _to_be_held(commands: Sequence[SagaCommand], holds: Sequence[Hold]) -> Collection[str]:
    """The campaigns of orders that are held for the first time."""
    decided = {hold.order_id for hold in holds}
    return {
        command.coupon_id
        for command in commands
        if isinstance(command, HoldCoupon) and command.order_id not in decided
    }
