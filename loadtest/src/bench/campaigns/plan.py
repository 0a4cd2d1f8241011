"""What one run of the kinds of campaign measures: sizes, and the cells."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from bench.plan import Yardsticks
from shared.contracts.coupon import CampaignKind

KINDS: Final = (
    CampaignKind.FIRST_COME,
    CampaignKind.CONDITIONAL,
    CampaignKind.QUEUED,
    CampaignKind.LOCKED,
    CampaignKind.LOTTERY,
)
"""The first is what the others stand beside."""
MOST_USERS: Final = 200_000


class Keying(StrEnum):
    """How upstreams publish requests."""

    CAMPAIGN = "campaign"
    """Keyed by campaign, as the contract says."""
    NONE = "none"
    """Without a key."""


class CouponPlan(Yardsticks):
    """Sizes and repeats."""

    users: int = Field(5_000, ge=20, le=MOST_USERS)
    """Who ask each campaign for a coupon, all at once."""
    coupons: int = Field(100, ge=2)
    """Of each campaign."""
    repeats: int = Field(6, ge=1, le=50)
    instances: int = Field(3, ge=1, le=12)
    """Of coupon."""
    pgbench_s: int = Field(5, ge=1)
    loop_s: float = Field(0.5, gt=0)

    @field_validator("coupons")
    @classmethod
    def _fewer_than_users(cls, coupons: int, info: ValidationInfo) -> int:
        if coupons >= info.data.get("users", MOST_USERS + 1):
            raise ValueError("there must be fewer coupons than users, or nobody is turned away")
        return coupons

    @property
    def warm_up_users(self) -> int:
        """Of each rush before anything counts."""
        return max(self.users // 4, self.coupons + 1)


def title(keying: Keying) -> str:
    """What people call a situation."""
    return {Keying.CAMPAIGN: "on one partition", Keying.NONE: "over all partitions"}[keying]
