"""What one load test does."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from bench.plan import Rate, Yardsticks
from local_stack.seed import USERS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Scenario(StrEnum):
    """What the users do."""

    JOURNEY = "journey"
    """The workshop's journey with its stages, 11 minutes."""
    SHORT = "short"
    """The same in a sixth of the time."""
    ARRIVALS = "arrivals"
    """The journey at fixed rates, an open model."""
    FLASH_SALE = "flash-sale"
    COUPON_RUSH = "coupon-rush"

    @property
    def script(self) -> str:
        """The file in `loadtest/k6`."""
        return f"{Scenario.JOURNEY if self is Scenario.SHORT else self}.js"

    @property
    def crowd(self) -> bool:
        """Whether many want what there is little of."""
        return self in (Scenario.FLASH_SALE, Scenario.COUPON_RUSH)


PERIOD_S: Final = 1.0
CROWD_PERIOD_S: Final = 0.5
"""A crowd is served within seconds."""
LONG_PERIOD_S: Final = 5.0
"""k6 sorts all it has seen once a period: in a long run less often."""


class LoadPlan(Yardsticks):
    """A scenario and its sizes; those that it has no use for are left alone."""

    scenario: Scenario = Scenario.SHORT
    thresholds: Literal["ours", "workshop"] = "ours"
    """Errors below 0.1 % and p95 below 250 ms, or 10 % and 1,000 ms. A crowd has its own."""
    stages: str | None = Field(None, pattern=r"^\d+[sm]:\d+(,\d+[sm]:\d+)*$")
    """Of the journey, instead of the scenario's: how long, and to how many users."""
    rates: tuple[Rate, ...] = Field((25, 50, 100), min_length=1)
    """Customers a second who arrive, each rate after the other."""
    seconds: int = Field(20, ge=1)
    """How long they arrive at each."""
    users: int = Field(5_000, ge=2, le=USERS)
    """In a crowd, each asking once."""
    at_once: int = Field(500, ge=1)
    """Of these at any moment."""
    supply: int = Field(100, ge=1)
    """Units or coupons that the crowd wants."""

    @field_validator("at_once", "supply")
    @classmethod
    def _fewer_than_users(cls, count: int, info: ValidationInfo) -> int:
        if count >= info.data.get("users", USERS + 1):
            raise ValueError("there must be fewer of them than users")
        return count

    @property
    def period_s(self) -> float:
        """Between figures of k6, in seconds."""
        if self.scenario.crowd:
            return CROWD_PERIOD_S
        long = self.scenario is Scenario.JOURNEY and self.stages is None
        return LONG_PERIOD_S if long else PERIOD_S

    @property
    def watch_s(self) -> float:
        """Between looks at the stack, in seconds."""
        return min(self.period_s, PERIOD_S)

    def settings(self, scarce_id: str) -> Mapping[str, str]:
        """What the script is told, as environment variables; a crowd wants `scarce_id`."""
        match self.scenario:
            case Scenario.JOURNEY | Scenario.SHORT:
                own = {"STAGES": self.stages or self.scenario}
            case Scenario.ARRIVALS:
                own = {"RATES": ",".join(map(str, self.rates)), "SECONDS": str(self.seconds)}
            case Scenario.FLASH_SALE:
                own = {"PRODUCT": scarce_id, "UNITS": str(self.supply), **self._crowd()}
            case Scenario.COUPON_RUSH:
                own = {"CAMPAIGN": scarce_id, "COUPONS": str(self.supply), **self._crowd()}
        return {"THRESHOLDS": self.thresholds, **own}

    def _crowd(self) -> dict[str, str]:
        return {"USERS": str(self.users), "AT_ONCE": str(self.at_once)}
