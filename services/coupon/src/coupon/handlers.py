"""A chunk of commands becomes effects and replies: load, fold, save."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from coupon.asked import NOTHING_ASKED
from coupon.campaign_chunk import CampaignChunk
from coupon.campaigns import CampaignFold, Loaded
from coupon.domain import Fold
from coupon.lottery_store import LotteryStore
from coupon.metrics import ENTERED, ISSUED, REFUSALS, WAITED
from coupon.records import LIVE_STATES
from coupon.store import Store
from shared import crash_points
from shared.contracts.coupon import (
    CouponIssued,
    CouponRefused,
    CouponRequestRefused,
    HoldCoupon,
    IssueCoupon,
)
from shared.pipeline import (
    ApartError,
    Committed,
    Conflict,
    Delivery,
    Outgoing,
    Refusal,
    in_order_of_arrival,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from coupon.asked import Asked
    from coupon.campaigns import CampaignEvent
    from coupon.domain import SagaCommand
    from coupon.doorkeeper import Doorkeeper
    from coupon.records import CouponKey, Hold
    from shared.contracts.refusals import Refused
    from shared.database import Connection, Write
    from shared.pipeline import Handler

REPLIES = "coupon.replies.v1"
EVENTS = "coupon.events.v1"

SEED_BYTES: Final = 32
WAITS_BEFORE_REBUILDING: Final = 5
"""So often in a row a chunk waits, for a second or so in all, for users who were admitted before
its own. One that was admitted and is still not decided then is a dead instance's: the gate is
written anew, and asks begin again."""


def new_seed() -> str:
    """The seed of a new lottery."""
    return secrets.token_hex(SEED_BYTES)


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

    A chunk locks each of its campaigns once and gives out all coupons that it asks for; one whose
    requests were all turned away before locks nothing.
    """

    def __init__(self, currency: str, doorkeeper: Doorkeeper) -> None:
        """`currency` is the deployment's."""
        self._currency = currency
        self._doorkeeper = doorkeeper
        self._waits: dict[str, int] = {}
        """How often in a row users of a campaign were turned away while it had coupons left."""

    @asynccontextmanager
    async def begin(self, deliveries: Sequence[Delivery]) -> AsyncIterator[Handler]:
        """Ask the gates of campaigns, and take their locks, before the transaction."""
        requests = [
            delivery
            for delivery in in_order_of_arrival(deliveries)
            if isinstance(delivery.message, IssueCoupon)
        ]
        if not requests:
            yield self
            return
        asked_for = {cast("IssueCoupon", one.message).coupon_id for one in requests}
        self._waits = {one: waits for one, waits in self._waits.items() if one in asked_for}
        stuck = [one for one, waits in self._waits.items() if waits >= WAITS_BEFORE_REBUILDING]
        async with self._doorkeeper.ask(requests, stuck) as asked:
            yield partial(self._decide, asked)

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide a chunk in which nobody asks for a coupon."""
        return await self._decide(NOTHING_ASKED, connection, deliveries)

    async def _decide(
        self, asked: Asked, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk; an event for each, or a refusal."""
        chunk = CampaignChunk(in_order_of_arrival(deliveries), asked)
        store, lotteries = Store(connection), LotteryStore(connection)
        loaded = await _load(chunk, store, lotteries)
        crash_points.reach("after_load")

        fold = CampaignFold(loaded, currency=self._currency, new_seed=new_seed)
        events = chunk.decide(fold)
        self._wait_for_others(chunk, events)

        refused = [event.reason for event in events if isinstance(event, CouponRequestRefused)]
        issued = [event.command_id for event in events if isinstance(event, CouponIssued)]
        in_vain = asked.in_vain(issued)
        return [
            *(
                delivery.decided(EVENTS, event)
                for delivery, event in zip(chunk.deliveries, events, strict=True)
                if event is not None
            ),
            *_saved_campaigns(store, fold, asked),
            *_saved_lotteries(lotteries, fold),
            Committed.count(REFUSALS, refused),
            Committed(partial(ISSUED.inc, len(fold.new_coupons))),
            Committed(partial(ENTERED.inc, len(fold.new_entries))),
            Committed(partial(self._doorkeeper.returns.add, in_vain)),
        ]

    def _wait_for_others(
        self, chunk: CampaignChunk, events: Sequence[CampaignEvent | Refused | None]
    ) -> None:
        """Raises ApartError where some commands of a chunk have to wait for the others of it, and
        Conflict where all have to wait for another instance."""
        waiting = [
            delivery
            for delivery, event in zip(chunk.deliveries, events, strict=True)
            if event is None
        ]
        if not waiting:
            for command in chunk.commands:
                self._waits.pop(command.coupon_id, None)
            return
        if len(waiting) < len(events):
            raise ApartError(waiting)
        WAITED.inc()
        for coupon_id in {command.coupon_id for command in chunk.commands}:
            self._waits[coupon_id] = self._waits.get(coupon_id, 0) + 1
        raise Conflict("a gate has turned users away while coupons are left")


async def _load(chunk: CampaignChunk, store: Store, lotteries: LotteryStore) -> Loaded:
    if chunk.queued:
        await store.queue(chunk.queued)
    campaigns = await store.lock_campaigns(chunk.locked) if chunk.locked else []
    if chunk.watched:
        campaigns += await store.read_campaigns(chunk.watched)
    coupons = await store.read_coupons(chunk.users) if chunk.users else ()
    entered = await lotteries.entered(chunk.entrants) if chunk.entrants else ()
    now = await store.read_clock()
    drawing = chunk.lotteries
    seeds = await lotteries.seeds(drawing) if drawing else {}
    return Loaded(campaigns, {coupon.key for coupon in coupons}, entered, seeds, now)


def _saved_campaigns(store: Store, fold: CampaignFold, asked: Asked) -> list[Write]:
    writes = []
    if fold.new_campaigns:
        writes.append(store.insert_campaigns(fold.new_campaigns))
    if changed := fold.changed_campaigns:
        fences = {one: asked.fence_of(row) for one, row in fold.loaded_campaigns.items()}
        writes.append(store.update_campaigns(changed, fences))
    if fold.new_coupons:
        writes.append(store.insert_coupons(fold.new_coupons))
    return writes


def _saved_lotteries(lotteries: LotteryStore, fold: CampaignFold) -> list[Write]:
    writes = []
    if fold.new_seeds:
        writes.append(lotteries.insert_seeds(fold.new_seeds))
    if fold.new_entries:
        writes.append(lotteries.insert_entries(fold.new_entries))
        writes.append(lotteries.insert_tickets(fold.new_entries))
    return writes


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
