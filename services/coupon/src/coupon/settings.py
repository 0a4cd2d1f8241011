"""Coupon's settings, beside those that every service has."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from shared.settings import ServiceSettings, check_lease


class Settings(ServiceSettings):
    """What coupon is told."""

    lock_lease_s: float = Field(default=2.0, ge=1, le=60)
    """The lock of a `locked` campaign is free again so long after its holder died."""
    gates_interval_s: float = Field(default=0.5, ge=0.05, le=60)
    """Gates are compared with their campaigns so often."""
    gates_lease_s: float = Field(default=5.0, ge=1)
    draw_interval_s: float = Field(default=0.5, ge=0.05, le=60)
    """Winners of drawn lotteries are looked for so often."""

    @model_validator(mode="after")
    def _gates_lease_outlasts_its_renewal(self) -> Self:
        check_lease(
            "GATES_LEASE_S", self.gates_lease_s, "GATES_INTERVAL_S", self.gates_interval_s,
            "two instances write the same gates in turn",
        )  # fmt: skip
        return self
