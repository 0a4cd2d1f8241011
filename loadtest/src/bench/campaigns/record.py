"""The raw figures of one run of the kinds of campaign, as they lie in its JSON file."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bench.campaigns.plan import CouponPlan, Keying
from bench.record import Repeat, RunRecord
from shared.contracts.coupon import CampaignKind


class RushRepeat(BaseModel):
    """One rush."""

    done: Repeat
    """Requests and their answers; what is used and written includes the draw of a lottery."""
    asked_in_ms: int
    """From the first request to the last."""
    moments: int
    """Different milliseconds in which the broker stored requests."""
    issued: int
    """Coupons."""
    issued_in_ms: int
    """From the first request to the last coupon; of a lottery, from `DrawLottery`."""
    overtaken: int
    """Users who got nothing while somebody who came later got a coupon."""
    inversions: int
    """Pairs of coupons of which the one with the lower sequence went to who came later."""
    early: int
    """Coupons that went to the earlier half of the users."""

    @property
    def issued_per_second(self) -> float:
        return self.issued / self.issued_in_ms * 1000


class Cell(BaseModel):
    """One kind in one situation, each time it was measured: place by place in the same rounds."""

    kind: CampaignKind
    keying: Keying
    rushes: list[RushRepeat] = Field(default_factory=list)


class CouponRecord(RunRecord):
    """One run."""

    plan: CouponPlan
    cells: list[Cell]

    def cell(self, kind: CampaignKind, keying: Keying) -> Cell:
        """Raises KeyError where it was not measured."""
        for cell in self.cells:
            if (cell.kind, cell.keying) == (kind, keying):
                return cell
        raise KeyError(kind, keying)
