"""The storefront's settings, beside those that every process has."""

from __future__ import annotations

from typing import Literal, Self

from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError
from pydantic import Field, SecretStr, model_validator

from shared.contracts.order_document import ORDERS_AT_MOST
from shared.settings import ProcessSettings

Algorithm = Literal["RS256", "ES256", "EdDSA"]


class Settings(ProcessSettings):
    """What the storefront is told."""

    # where it is asked, and whom it asks
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=3000, ge=0, le=65535)
    stock_url: str = Field(pattern=r"^https?://[^\s/?#]+$")
    """Stock's admin port: the catalogue, and levels as they are now."""
    orchestrator_url: str = Field(pattern=r"^https?://[^\s/?#]+$")
    """The orchestrator's admin port: orders as they are now."""

    # who asks
    identity: Literal["token", "open"] = "token"
    """`open`: whoever asks is who they say. For trying out; said at the start."""
    token_algorithm: Algorithm = "RS256"  # noqa: S105 - the name of an algorithm
    token_public_key: SecretStr = SecretStr("")
    """PEM. Tokens are made elsewhere: this can only check them."""
    token_issuer: str = ""
    token_audience: str = ""
    session_cache_s: int = Field(default=3_600, ge=1, le=86_400)
    """A token that was checked is believed for so long, and never past its own end."""

    # limits
    answer_within_s: float = Field(default=10.0, gt=0, le=60)
    """What takes longer is answered 202."""
    in_flight_at_most: int = Field(default=2_000, ge=1, le=100_000)
    """Orders, payments and the like under way at once; further ones are answered 503."""
    connections_at_most: int = Field(default=8_192, ge=1, le=100_000)
    streams_at_most: int = Field(default=1_000, ge=0, le=100_000)
    """Open streams of server-sent events."""
    body_bytes_at_most: int = Field(default=65_536, ge=1_024, le=262_144)
    drain_s: float = Field(default=0.0, ge=0, le=60)
    """Told to stop, it goes on serving for so long while `/readyz` says no already: until who
    spreads the load has noticed."""
    body_within_s: float = Field(default=10.0, gt=0, le=300)
    unpaid_at_most: int = Field(default=20, ge=1, le=ORDERS_AT_MOST)
    """Orders of one user that wait for their payment: so many are looked up at once."""
    unpaid_keep_s: int = Field(default=960, ge=1)
    """An order counts as unpaid for so long, where nothing is heard of it: a little longer than
    PAY_DEADLINE_S."""

    # what is kept in Redis and in memory
    cart_keep_s: int = Field(default=3_600, ge=1)
    """From the last use on."""
    cart_lines_at_most: int = Field(default=100, ge=1, le=100)
    product_cache_s: int = Field(default=300, ge=1)
    hot_cache_s: int = Field(default=60, ge=1)
    """Of products that are asked for often: they are fresher, and loaded by one alone."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hot_cache_s > self.product_cache_s:
            raise ValueError("HOT_CACHE_S must be at most PRODUCT_CACHE_S")
        if self.drain_s > self.stop_grace_s / 2:
            raise ValueError(
                "DRAIN_S must be at most half of STOP_GRACE_S, or what is under way is not finished"
            )
        if self.identity == "open":
            return self
        if "PUBLIC KEY" not in self.token_public_key.get_secret_value():
            raise ValueError(
                "IDENTITY is token: set TOKEN_PUBLIC_KEY_FILE to a public key in PEM, or IDENTITY"
                " to open where nobody but you can reach the port"
            )
        if not self.token_issuer or not self.token_audience:
            raise ValueError("IDENTITY is token: set TOKEN_ISSUER and TOKEN_AUDIENCE")
        self._require_key()
        return self

    def _require_key(self) -> None:
        algorithm = get_default_algorithms()[self.token_algorithm]
        try:
            algorithm.prepare_key(self.token_public_key.get_secret_value())
        except (PyJWTError, ValueError, TypeError) as error:
            raise ValueError(
                f"TOKEN_PUBLIC_KEY_FILE is no public key for {self.token_algorithm}, which"
                f" TOKEN_ALGORITHM asks for: {error}"
            ) from error
