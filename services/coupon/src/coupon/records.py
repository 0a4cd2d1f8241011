"""Coupon's records: campaigns, coupons, entries, and what was decided for orders. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from coupon.kinds import WAYS
from shared.contracts.base import format_time
from shared.contracts.coupon import CampaignKind, CouponRefusal, DiscountType

if TYPE_CHECKING:
    from datetime import datetime

    from coupon.kinds import Way

CouponKey: TypeAlias = tuple[str, str]
"""Campaign and user: (couponId, userId)."""


class HoldState(StrEnum):
    """What became of an order's coupon."""

    HELD = "HELD"
    USED = "USED"
    RESTORED = "RESTORED"
    REFUSED = "REFUSED"
    TOMBSTONE = "TOMBSTONE"
    """The restore came first: a hold that comes later is refused."""


class CouponState(StrEnum):
    """Where a coupon is. One that is ISSUED is worthless once its campaign's coupons expire: that
    is told from the clock and stored nowhere."""

    ISSUED = "ISSUED"
    HELD = "HELD"
    USED = "USED"


LIVE_STATES = frozenset({HoldState.HELD, HoldState.USED})
"""An order in one of these has a coupon, which is in the same state."""


class Judged(NamedTuple):
    """What a rule said of a request."""

    rule: str
    why_not: str | None
    """Why the user is not eligible; None where it is."""


class Arrival(NamedTuple):
    """Where a request lay."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign, and how many coupons it gave out."""

    coupon_id: str
    kind: CampaignKind
    limit: int
    issued: int
    discount_type: DiscountType
    discount_value: int
    discount_cap: int | None
    currency: str
    starts_at: datetime | None
    ends_at: datetime | None
    expires_at: datetime | None = None
    """Until when its coupons are good."""
    rule: str | None = None
    fence: int = 0
    """What was found out under a lower one counts no more."""
    seed_hash: str | None = None
    entries_hash: str | None = None
    seed: str | None = None
    """Once it is drawn."""
    entered: int = 0
    drawn_at: datetime | None = None
    winners: int | None = None
    """How many coupons the draw gives out."""

    @property
    def way(self) -> Way:
        """What its kind does before a coupon is issued."""
        return WAYS[self.kind]

    @property
    def is_full(self) -> bool:
        """Whether all its coupons are given out."""
        return self.issued >= self.limit

    def at_fence(self, fence: int) -> Campaign:
        """The same at another fence."""
        return self if fence == self.fence else replace(self, fence=fence)

    def is_open(self, now: datetime) -> bool:
        """Whether coupons, or entries, are taken at `now`."""
        return self.drawn_at is None and self.has_started(now) and not self.has_ended(now)

    def why_not_open(self, now: datetime) -> str:
        """When one that isn't open at `now` opens, or since when it is over."""
        if self.drawn_at is not None:
            return f"the lottery was drawn at {format_time(self.drawn_at)}"
        if self.starts_at is not None and not self.has_started(now):
            return f"the campaign opens at {format_time(self.starts_at)}"
        ends = [time for time in (self.ends_at, self.expires_at) if time is not None]
        return f"the campaign closed at {format_time(min(ends))}"

    def has_started(self, now: datetime) -> bool:
        """Whether it is more than a draft at `now`."""
        return self.starts_at is None or self.starts_at <= now

    def has_ended(self, now: datetime) -> bool:
        """Whether it is closed at `now`: it gives out nothing that is worthless already."""
        return self.has_expired(now) or (self.ends_at is not None and self.ends_at <= now)

    def has_expired(self, now: datetime) -> bool:
        """Whether its coupons are worthless at `now`, but those that orders hold."""
        return self.expires_at is not None and self.expires_at <= now

    def discount_of(self, total: int) -> int:
        """Minor units off `total`: a percentage is rounded down, and nothing goes below 0."""
        if self.discount_type is DiscountType.FIXED:
            return min(self.discount_value, total)
        discount = total * self.discount_value // 100
        return discount if self.discount_cap is None else min(discount, self.discount_cap)


@dataclass(frozen=True, slots=True)
class Coupon:
    """One user's coupon of one campaign; `order_id` is who holds or used it."""

    coupon_id: str
    user_id: str
    sequence: int
    state: CouponState
    order_id: str | None
    issued_at: datetime
    arrived: Arrival | None = None
    """Where its request lay, of a queued campaign."""

    @property
    def key(self) -> CouponKey:
        """What it is known by."""
        return self.coupon_id, self.user_id


@dataclass(frozen=True, slots=True)
class Entry:
    """One user's entry in one lottery."""

    coupon_id: str
    user_id: str
    number: int
    command_id: str
    entered_at: datetime
    ticket: str
    """Nobody may know it before the draw."""

    @property
    def key(self) -> CouponKey:
        """What it is known by."""
        return self.coupon_id, self.user_id


@dataclass(frozen=True, slots=True)
class Hold:
    """What was decided for an order, kept for good so that it can be said again.

    `total` and `discount` are there where the coupon was held once, `refusal` where it was not.
    `used` stays true when a used coupon is restored.
    """

    order_id: str
    state: HoldState
    coupon_id: str
    user_id: str
    total: int | None = None
    discount: int | None = None
    refusal: CouponRefusal | None = None
    used: bool = False

    @property
    def key(self) -> CouponKey:
        """Its coupon."""
        return self.coupon_id, self.user_id
