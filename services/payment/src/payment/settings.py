"""Payment's settings, beside those that every service has: the gateway's."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from payment.calls import Pace
from shared.settings import ServiceSettings, check_lease

MIN_SECRET_CHARS: Final = 16
_KEY: Final = re.compile(r"[!-~]+", re.ASCII)


class GatewaySettings(NamedTuple):
    """How the gateway is called."""

    timeout_s: float
    calls_at_once: int
    lease_s: float
    retries_per_s: float
    watches_per_s: float
    callback_url: str | None
    pace: Pace


class Settings(ServiceSettings):
    """What payment is told."""

    gateway_url: str | None = None
    """Without it, charges by `gateway` are refused as `method_unavailable`."""
    gateway_takes_charges: bool = True
    """False: what was asked before is settled, and further charges by `gateway` are refused."""
    gateway_api_key: SecretStr = SecretStr("")
    gateway_timeout_s: float = Field(default=3.0, gt=0, le=60)
    """For one request, from connecting to the last byte."""
    gateway_lease_s: float = Field(default=10.0, ge=1, le=600)
    """A call belongs to one worker for so long, and its request expires then."""
    gateway_calls_at_once: int = Field(default=128, ge=1, le=2_000)
    """Of one instance."""
    gateway_retries_per_s: float = Field(default=50.0, ge=1, le=10_000)
    """Of one instance: calls that are made again, beside half as many as are new."""
    gateway_watches_per_s: float = Field(default=50.0, ge=1, le=10_000)
    """Of one instance, at most: questions about charges whose orders were given up."""
    gateway_key_retention_s: float = Field(default=86_400.0, ge=600)
    """The gateway knows a key for at least so long. What is unknown by then needs a person."""
    gateway_retry_first_s: float = Field(default=0.5, gt=0, le=60)
    reconcile_interval_s: float = Field(default=15.0, gt=0, le=3_600)
    """Pauses between two questions about one call grow up to this."""

    callback_host: str = "127.0.0.1"
    callback_port: int = Field(default=0, ge=0, le=65535)
    callback_url: str | None = None
    """Where the gateway reaches `/gateway/callbacks` of any instance; by default this one's."""
    gateway_webhook_secret: SecretStr = SecretStr("")
    """Without it no callbacks are taken: outcomes are asked for."""

    @model_validator(mode="after")
    def _gateway_fits(self) -> Self:
        if self.gateway_url is None:
            return self
        _check_address("GATEWAY_URL", self.gateway_url)
        if self.callback_url is not None:
            _check_address("CALLBACK_URL", self.callback_url)
        if not self.gateway_api_key.get_secret_value():
            raise ValueError("GATEWAY_URL is set: set GATEWAY_API_KEY, or GATEWAY_API_KEY_FILE")
        if not _KEY.fullmatch(self.gateway_api_key.get_secret_value()):
            raise ValueError("GATEWAY_API_KEY must be printable ASCII without blanks")
        if self.gateway_retry_first_s > self.reconcile_interval_s:
            raise ValueError("GATEWAY_RETRY_FIRST_S must be at most RECONCILE_INTERVAL_S")
        check_lease(
            "GATEWAY_LEASE_S", self.gateway_lease_s, "GATEWAY_TIMEOUT_S", self.gateway_timeout_s,
            "a request is answered after its lease, and somebody else asks about it meanwhile",
        )  # fmt: skip
        if self.reconcile_interval_s * 4 > self.gateway_key_retention_s:
            raise ValueError(
                "GATEWAY_KEY_RETENTION_S must be at least four times RECONCILE_INTERVAL_S, or an"
                " unknown call is never asked for before the gateway forgets it"
            )
        if secret := self.gateway_webhook_secret.get_secret_value():
            self._check_callbacks(secret)
        return self

    def _check_callbacks(self, secret: str) -> None:
        if len(secret) < MIN_SECRET_CHARS:
            raise ValueError(f"GATEWAY_WEBHOOK_SECRET needs {MIN_SECRET_CHARS} characters or more")
        if not self.callback_port:
            raise ValueError("GATEWAY_WEBHOOK_SECRET is set: set CALLBACK_PORT, to take callbacks")
        if self.callback_url is None and self.callback_host in ("0.0.0.0", "::", ""):  # noqa: S104
            raise ValueError(
                f"CALLBACK_HOST is {self.callback_host}, which the gateway can't call: set"
                " CALLBACK_URL, as http://payment.example:8085/gateway/callbacks"
            )

    def pace(self) -> Pace:
        """How calls are asked about."""
        return Pace(
            first_pause=timedelta(seconds=self.gateway_retry_first_s),
            interval=timedelta(seconds=self.reconcile_interval_s),
            key_retention=timedelta(seconds=self.gateway_key_retention_s),
        )

    def gateway(self) -> GatewaySettings:
        """How the gateway is called."""
        own = f"http://{self.callback_host}:{self.callback_port}/gateway/callbacks"
        takes_callbacks = bool(self.gateway_webhook_secret.get_secret_value())
        return GatewaySettings(
            self.gateway_timeout_s,
            self.gateway_calls_at_once,
            self.gateway_lease_s,
            self.gateway_retries_per_s,
            self.gateway_watches_per_s,
            (self.callback_url or own) if takes_callbacks else None,
            self.pace(),
        )


def _check_address(name: str, value: str) -> None:
    """Raises ValueError where nobody could be called at `value`."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{name} is no address: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{name} must begin with http:// or https://")
    if not host or port == 0 or any(letter.isspace() for letter in value):
        raise ValueError(f"{name} must name a host, as http://gateway.example:8090")
    if parts.username or parts.query or parts.fragment:
        raise ValueError(f"{name} must be an address alone, without user, query or fragment")
