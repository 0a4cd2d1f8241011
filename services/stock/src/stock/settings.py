"""Stock's settings, beside those that every service has."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from shared.contracts.base import MAX_TOTAL
from shared.settings import ServiceSettings


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
        if self.counters_lease_s < 3 * self.counters_interval_s:
            raise ValueError(
                "COUNTERS_LEASE_S must be at least three times COUNTERS_INTERVAL_S, or two"
                " instances write the same counters in turn"
            )
        return self

    low_stock_units: int = Field(default=10, ge=0, le=MAX_TOTAL)
    """Units available at which a product is low: `StockLow` tells of each that falls to them or
    below. 0 tells of none."""

    @model_validator(mode="after")
    def _lease_outlasts_its_renewal(self) -> Self:
        if self.levels_lease_s < 3 * self.levels_interval_s:
            raise ValueError(
                "LEVELS_LEASE_S must be at least three times LEVELS_INTERVAL_S, or the lease ends"
                " before it is renewed and every new holder sends all levels again"
            )
        return self
