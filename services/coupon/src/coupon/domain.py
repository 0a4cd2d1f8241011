"""Coupon's decisions: what the saga's commands do to coupons and holds. Pure.

    HoldCoupon ──▶ HELD ──UseCoupon──▶ USED
        │            └──RestoreCoupon───┴──▶ RESTORED
        └──▶ REFUSED        RestoreCoupon of nothing ──▶ TOMBSTONE

A coupon is one user's in one campaign. It is ISSUED, HELD or USED, and goes back to ISSUED when
its order gives it up; only its expiry, by the database's clock, makes it worthless, and not while
an order holds it. The first verdict on an order is final: a refused one stays refused
when the coupon comes back, and each command gets the reply that it got first, whatever came in
between. What campaigns give out is decided in `coupon.campaigns`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from coupon.records import LIVE_STATES, CouponState, Hold, HoldState
from shared.contracts.coupon import (
    CouponHeld,
    CouponRefusal,
    CouponRefused,
    CouponRestored,
    CouponUsed,
    HoldCoupon,
    RestoreCoupon,
    UseCoupon,
)
from shared.contracts.effects import Effect

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from coupon.records import Campaign, Coupon

SagaCommand: TypeAlias = HoldCoupon | UseCoupon | RestoreCoupon
SagaReply: TypeAlias = CouponHeld | CouponRefused | CouponUsed | CouponRestored


class Fold:
    """A chunk of the saga's commands in memory: they change it one by one, and it knows what is
    to be saved."""

    def __init__(
        self,
        campaigns: Iterable[Campaign],
        coupons: Iterable[Coupon],
        holds: Iterable[Hold],
        *,
        currency: str,
        now: datetime | None,
    ) -> None:
        """Start from the rows that the chunk touches; `currency` is the deployment's.

        `now` is the database's time after the rows were locked. It may be None where no order
        of the chunk is held for the first time: nothing else hangs on time.
        """
        self._campaigns = {campaign.coupon_id: campaign for campaign in campaigns}
        self._coupons = {coupon.key: coupon for coupon in coupons}
        self._holds = {hold.order_id: hold for hold in holds}
        self._loaded_coupons = dict(self._coupons)
        self._loaded_holds = dict(self._holds)
        self._currency = currency
        self._now = now

    def apply(self, command: SagaCommand) -> SagaReply:
        """Decide a command. One that was decided before gets the same reply again.

        Raises ValueError on a command that names another coupon than its order's record: the
        orchestrator sends one coupon an order.
        """
        hold = self._holds.get(command.order_id)
        if hold is not None and hold.key != (command.coupon_id, command.user_id):
            raise ValueError(
                f"order {command.order_id} has the coupon {hold.coupon_id} of {hold.user_id},"
                f" not {command.coupon_id} of {command.user_id}"
            )
        match command:
            case HoldCoupon():
                return self._hold(command, hold)
            case UseCoupon():
                return self._use(command, hold)
            case RestoreCoupon():
                return self._restore(command, hold)
            case _:
                assert_never(command)

    @property
    def new_holds(self) -> list[Hold]:
        """Orders decided for the first time, in key order."""
        return [row for key, row in sorted(self._holds.items()) if key not in self._loaded_holds]

    @property
    def changed_holds(self) -> list[Hold]:
        """Orders that were loaded and changed, in key order."""
        return [
            row
            for key, row in sorted(self._holds.items())
            if key in self._loaded_holds and row is not self._loaded_holds[key]
        ]

    @property
    def changed_coupons(self) -> list[Coupon]:
        """Coupons that changed hands, in key order."""
        return [
            row
            for key, row in sorted(self._coupons.items())
            if row is not self._loaded_coupons[key]
        ]

    def _hold(self, command: HoldCoupon, hold: Hold | None) -> CouponHeld | CouponRefused:
        if hold is None:
            hold = self._decide(command)
            self._holds[hold.order_id] = hold
            if hold.state is HoldState.HELD:
                self._hand_over(hold, CouponState.HELD)
        if hold.discount is None:
            return _refused(command, hold.refusal or CouponRefusal.ALREADY_RESTORED)
        return CouponHeld(
            command_id=command.command_id,
            order_id=command.order_id,
            discount=hold.discount,
            currency=self._currency,
        )

    def _decide(self, command: HoldCoupon) -> Hold:
        campaign = self._campaigns.get(command.coupon_id)
        coupon = self._coupons.get((command.coupon_id, command.user_id))
        refusal: CouponRefusal | None = None
        if command.currency != self._currency:
            refusal = CouponRefusal.CURRENCY_MISMATCH
        elif campaign is None:
            refusal = CouponRefusal.UNKNOWN_CAMPAIGN
        elif campaign.currency != self._currency:
            refusal = CouponRefusal.CURRENCY_MISMATCH
        elif coupon is None:
            refusal = CouponRefusal.NOT_ISSUED
        elif coupon.state is CouponState.USED:
            refusal = CouponRefusal.ALREADY_USED
        elif coupon.state is CouponState.HELD:
            refusal = CouponRefusal.HELD_BY_ANOTHER_ORDER
        elif self._now is None:
            raise ValueError("a new hold needs the database's time")
        elif campaign.has_expired(self._now):
            refusal = CouponRefusal.EXPIRED
        else:
            return Hold(
                command.order_id, HoldState.HELD, command.coupon_id, command.user_id,
                command.total, campaign.discount_of(command.total),
            )  # fmt: skip
        return Hold(
            command.order_id, HoldState.REFUSED, command.coupon_id, command.user_id,
            refusal=refusal,
        )  # fmt: skip

    def _use(self, command: UseCoupon, hold: Hold | None) -> CouponUsed | CouponRefused:
        if hold is None:
            # Never sent before the hold was answered; but a refusal is final, so the hold may
            # not make it untrue when it comes.
            hold = Hold(
                command.order_id, HoldState.REFUSED, command.coupon_id, command.user_id,
                refusal=CouponRefusal.NOT_HELD,
            )  # fmt: skip
            self._holds[command.order_id] = hold
        if hold.state is HoldState.HELD:
            hold = replace(hold, state=HoldState.USED, used=True)
            self._holds[command.order_id] = hold
            self._hand_over(hold, CouponState.USED)
        if not hold.used:
            return _refused(command, CouponRefusal.NOT_HELD)
        return CouponUsed(command_id=command.command_id, order_id=command.order_id)

    def _restore(self, command: RestoreCoupon, hold: Hold | None) -> CouponRestored:
        effect = Effect.NOTHING
        if hold is None:
            self._holds[command.order_id] = Hold(
                command.order_id, HoldState.TOMBSTONE, command.coupon_id, command.user_id
            )
        elif hold.state in LIVE_STATES:
            effect = Effect.UNDONE
            self._holds[hold.order_id] = replace(hold, state=HoldState.RESTORED)
            self._hand_over(hold, CouponState.ISSUED)
        elif hold.state is HoldState.RESTORED:
            effect = Effect.UNDONE  # the same reply again
        return CouponRestored(
            command_id=command.command_id, order_id=command.order_id, effect=effect
        )

    def _hand_over(self, hold: Hold, state: CouponState) -> None:
        """Move the coupon of `hold` to `state`: to its order, or back to its user."""
        order_id = None if state is CouponState.ISSUED else hold.order_id
        self._coupons[hold.key] = replace(self._coupons[hold.key], state=state, order_id=order_id)


def _refused(command: SagaCommand, reason: CouponRefusal) -> CouponRefused:
    return CouponRefused(command_id=command.command_id, order_id=command.order_id, reason=reason)
