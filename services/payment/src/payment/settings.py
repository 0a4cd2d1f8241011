"""Payment's settings: those that every service has, and none beside them yet."""

from __future__ import annotations

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What payment is told."""
