"""Bearer tokens for tests, and the settings of who checks them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

ISSUER = "https://id.example"
AUDIENCE = "shop"
ALGORITHM = "ES256"
VALID_S = 600


class Issuer:
    """Makes tokens by a key pair of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        self.public_key = public.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ).decode()

    @property
    def settings(self) -> Mapping[str, str]:
        """What a storefront is told of it, as environment variables."""
        return {name.upper(): value for name, value in self.fields.items()}

    @property
    def fields(self) -> Mapping[str, Any]:
        """The same, by the names of settings."""
        return {
            "identity": "token",
            "token_algorithm": ALGORITHM,
            "token_public_key": self.public_key,
            "token_issuer": ISSUER,
            "token_audience": AUDIENCE,
        }

    def claims(self, user_id: str, **claims: Any) -> dict[str, Any]:
        """What a token of a user says; None leaves a claim out."""
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "iat": now, "exp": now + VALID_S}
        return {name: value for name, value in (said | claims).items() if value is not None}

    def token(self, user_id: str, **claims: Any) -> str:
        """A signed token of a user; `claims` win, also where they are wrong."""
        content = json.dumps(self.claims(user_id, **claims)).encode()
        return jwt.PyJWS().encode(content, self._key, algorithm=ALGORITHM)
