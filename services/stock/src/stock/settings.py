"""Stock's settings, beside those that every service has."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from shared.contracts.base import MAX_TOTAL
from shared.settings import ServiceSettings, check_lease


class Settings(ServiceSettings):
    """What stock is told."""

    levels_interval_s: float = Field(default=0.25, ge=0.1, le=60)
    """A product's level is sent at most as often."""
    levels_lease_s: float = Field(default=5.0, ge=1)
    levels_compare_s: float = Field(default=30.0, ge=1)
    """All products are compared with what was sent as often: the net under the movements."""
    counters_interval_s: float = Field(default=0.5, ge=0.05, le=60)
    """The counters of hot products are compared with their rows so often."""
    counters_lease_s: float = Field(default=5.0, ge=1)
    advice_interval_s: float = Field(default=10.0, ge=0.1, le=60)
    """Contention is added up, and products that choose for themselves are looked at, so often."""

    @model_validator(mode="after")
    def _counters_lease_outlasts_its_renewal(self) -> Self:
        check_lease(
            "COUNTERS_LEASE_S", self.counters_lease_s, "COUNTERS_INTERVAL_S",
            self.counters_interval_s, "two instances write the same counters in turn",
        )  # fmt: skip
        return self

    low_stock_units: int = Field(default=10, ge=0, le=MAX_TOTAL)
    """Units available at which a product is low: `StockLow` tells of each that falls to them or
    below. 0 tells of none."""

    @model_validator(mode="after")
    def _lease_outlasts_its_renewal(self) -> Self:
        check_lease(
            "LEVELS_LEASE_S", self.levels_lease_s, "LEVELS_INTERVAL_S", self.levels_interval_s,
            "the lease ends before it is renewed and every new holder sends all levels again",
        )  # fmt: skip
        return self
