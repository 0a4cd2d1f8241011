"""Stock's settings, beside those that every service has."""

from __future__ import annotations

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What stock is told."""

    levels_interval_s: float = Field(default=0.25, ge=0.1, le=60)
    """A product's level is sent at most as often."""
    levels_lease_s: float = Field(default=5.0, ge=1)
