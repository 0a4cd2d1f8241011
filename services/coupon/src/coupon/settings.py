"""Coupon's settings: those that every service has."""

from __future__ import annotations

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What coupon is told."""
