"""Contracts of the coupon service: commands and replies of the saga, campaigns, requests."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import model_validator

from shared.contracts.base import (
    Currency,
    DerivedId,
    Hash,
    Id,
    Message,
    Money,
    Note,
    PositiveMoney,
    PositiveUnits,
    Record,
    Rule,
    Seed,
    Timestamp,
    Units,
)
from shared.contracts.effects import Effect
from shared.contracts.facts import Facts


class CampaignKind(StrEnum):
    FIRST_COME = "first_come"
    QUEUED = "queued"
    LOCKED = "locked"
    LOTTERY = "lottery"
    CONDITIONAL = "conditional"


class DiscountType(StrEnum):
    FIXED = "fixed"
    PERCENT = "percent"


class CampaignLife(StrEnum):
    """Where a campaign stands in its life, by the clock of the database."""

    DRAFT = "draft"
    """`startsAt` lies ahead."""
    OPEN = "open"
    CLOSED = "closed"
    """`endsAt` has passed."""
    DRAWN = "drawn"
    """A lottery whose winners are decided."""


class CouponRefusal(StrEnum):
    """Why a coupon was not issued, entered for, held or used. Closed.

    All of them become the order outcome `coupon_refused` with the reason in its details, but
    `temporarily_unavailable` and `currency_mismatch`, which the outcome takes under their names.
    """

    # answers to requests
    SOLD_OUT = "sold_out"
    ALREADY_ISSUED = "already_issued"
    NOT_ELIGIBLE = "not_eligible"
    NOT_OPEN = "not_open"
    # answers to both
    UNKNOWN_CAMPAIGN = "unknown_campaign"
    # answers to the saga
    NOT_HELD = "not_held"
    """Said of a `UseCoupon` that finds no hold of this order."""
    NOT_ISSUED = "not_issued"
    """The user has no coupon of this campaign."""
    EXPIRED = "expired"
    ALREADY_USED = "already_used"
    HELD_BY_ANOTHER_ORDER = "held_by_another_order"
    ALREADY_RESTORED = "already_restored"
    """`RestoreCoupon` came first and left its tombstone."""
    CURRENCY_MISMATCH = "currency_mismatch"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class HoldCoupon(Message):
    """`total` is before the discount."""

    type: Literal["HoldCoupon"] = "HoldCoupon"
    command_id: DerivedId
    order_id: Id
    user_id: Id
    coupon_id: Id
    total: Money
    currency: Currency


class UseCoupon(Message):
    type: Literal["UseCoupon"] = "UseCoupon"
    command_id: DerivedId
    order_id: Id
    user_id: Id
    coupon_id: Id


class RestoreCoupon(Message):
    """Ends hold and use alike."""

    type: Literal["RestoreCoupon"] = "RestoreCoupon"
    command_id: DerivedId
    order_id: Id
    user_id: Id
    coupon_id: Id


class CouponHeld(Message):
    """`discount` is never above the command's total."""

    type: Literal["CouponHeld"] = "CouponHeld"
    command_id: DerivedId
    order_id: Id
    discount: Money
    currency: Currency


class CouponRefused(Message):
    """The saga's reply: it did not happen and never will."""

    type: Literal["CouponRefused"] = "CouponRefused"
    command_id: DerivedId
    order_id: Id
    reason: CouponRefusal


class CouponUsed(Message):
    type: Literal["CouponUsed"] = "CouponUsed"
    command_id: DerivedId
    order_id: Id


class CouponRestored(Message):
    type: Literal["CouponRestored"] = "CouponRestored"
    command_id: DerivedId
    order_id: Id
    effect: Effect


class Discount(Record):
    """`fixed`: `value` minor units. `percent`: `value` of 100, at most `cap` minor units.

    Where `currency` is given and isn't the deployment's, the campaign is refused.
    """

    type: DiscountType
    value: PositiveMoney
    cap: PositiveMoney | None = None
    currency: Currency | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type is DiscountType.PERCENT and self.value > 100:
            raise ValueError("value: a percentage is 1 to 100")
        if self.type is DiscountType.FIXED and self.cap is not None:
            raise ValueError("cap: a fixed discount has none; leave it out")
        return self


class PutCampaign(Message):
    """Creates a campaign, or changes it while it runs; `limit` is the number of coupons.

    A change says all of it again: what it leaves out is gone. Coupons are asked for from
    `startsAt` until just before `endsAt`, a lottery's entries as well. They are good until
    `expiresAt`, by default until `endsAt`; a lottery's, which are drawn after that, are good for
    good by default. `rule` is CEL, of a conditional campaign.
    """

    type: Literal["PutCampaign"] = "PutCampaign"
    command_id: Id
    coupon_id: Id
    kind: CampaignKind
    limit: PositiveUnits
    discount: Discount
    rule: Rule | None = None
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    expires_at: Timestamp | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.starts_at and self.ends_at and self.starts_at >= self.ends_at:
            raise ValueError("endsAt must be after startsAt")
        if self.expires_at and any(
            time and time > self.expires_at for time in (self.starts_at, self.ends_at)
        ):
            raise ValueError("expiresAt must not be before startsAt or endsAt")
        if self.kind is CampaignKind.CONDITIONAL and self.rule is None:
            raise ValueError("rule: a conditional campaign needs one")
        return self


class DrawLottery(Message):
    """Once the entries are closed; it closes a lottery that has no `endsAt`."""

    type: Literal["DrawLottery"] = "DrawLottery"
    command_id: Id
    coupon_id: Id


class IssueCoupon(Message):
    type: Literal["IssueCoupon"] = "IssueCoupon"
    command_id: Id
    coupon_id: Id
    user_id: Id
    facts: Facts | None = None


class EnterLottery(Message):
    type: Literal["EnterLottery"] = "EnterLottery"
    command_id: Id
    coupon_id: Id
    user_id: Id
    facts: Facts | None = None


class CampaignPut(Message):
    """`seedHash` is there for a lottery: the SHA-256 of the seed that the draw will publish, the
    same in every change of the campaign."""

    type: Literal["CampaignPut"] = "CampaignPut"
    command_id: Id
    coupon_id: Id
    kind: CampaignKind
    limit: PositiveUnits
    seed_hash: Hash | None = None


class CouponIssued(Message):
    """`sequence` runs from 1 to the campaign's count without a gap."""

    type: Literal["CouponIssued"] = "CouponIssued"
    command_id: Id
    coupon_id: Id
    user_id: Id
    sequence: PositiveUnits
    issued_at: Timestamp


class CouponRequestRefused(Message):
    """`CouponRefused` as the answer to a request, on `coupon.events.v1`: it has no order.

    One type name and two models, since the saga's reply must carry its order id.
    """

    type: Literal["CouponRefused"] = "CouponRefused"
    command_id: Id
    coupon_id: Id
    user_id: Id
    reason: CouponRefusal
    detail: Note | None = None


class LotteryEntered(Message):
    """One entry a user: entering again is answered the same. `seedHash` is that of `CampaignPut`,
    so that whoever enters holds the commitment."""

    type: Literal["LotteryEntered"] = "LotteryEntered"
    command_id: Id
    coupon_id: Id
    user_id: Id
    seed_hash: Hash | None = None


class LotteryDrawn(Message):
    """Anyone can recompute the winners from `seed` and the entries that `entriesHash` fixes, as
    `shared.contracts.lottery` says. Each winner comes as `CouponIssued`, in the order of the draw.
    """

    type: Literal["LotteryDrawn"] = "LotteryDrawn"
    command_id: Id
    coupon_id: Id
    seed: Seed
    entries_hash: Hash
    entry_count: Units
    winner_count: Units
