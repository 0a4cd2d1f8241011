"""Who asks: a bearer token says it, or in an open storefront whoever asks."""

from __future__ import annotations

import hashlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jwt
from pydantic import ValidationError

from shared.admin import faults
from shared.contracts.facts import Facts
from shared.contracts.ids import is_id
from storefront.latest import Latest
from storefront.problems import ProblemError, invalid, unknown

if TYPE_CHECKING:
    from starlette.requests import Request

    from storefront.settings import Settings

TOKENS_REMEMBERED: Final = 20_000
TOKEN_CHARS_AT_MOST: Final = 4_096
LEEWAY_S: Final = 5
"""By how much clocks may differ."""
FACTS_CLAIM: Final = "facts"
"""Of a token: what rules of coupons may know of a user."""


class Caller(NamedTuple):
    """Who asks. `user_id` is None where nobody checks."""

    user_id: str | None
    facts: Facts | None = None
    """What the token says of the user, for the rules of campaigns."""

    def acting_as(self, named: str | None) -> str:
        """The user of a new thing: the token's, which a `userId` that is given must be; 403
        otherwise. Raises ProblemError."""
        if self.user_id is None:
            if named is None:
                raise invalid("userId: missing; say whose it is")
            return named
        if named not in (None, self.user_id):
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "userId is not the token's; leave it out",
                reason="another_user",
            )
        return self.user_id

    def owner(self, named: str | None, what: str) -> str:
        """The user of a thing that is there: another's is as one that isn't. Raises
        ProblemError."""
        if self.user_id is not None and named not in (None, self.user_id):
            raise unknown(what)
        return self.acting_as(named)


class Identity:
    """Tells callers by their requests."""

    def __init__(self, settings: Settings) -> None:
        self._open = settings.identity == "open"
        self._key = settings.token_public_key.get_secret_value()
        self._algorithm = settings.token_algorithm
        self._issuer = settings.token_issuer
        self._audience = settings.token_audience
        self._believe_s = settings.session_cache_s
        self._sessions: Latest[bytes, tuple[float, Caller]] = Latest(TOKENS_REMEMBERED)
        """SHA-256 of a token -> until when it is believed, and whose it is."""

    def caller(self, request: Request) -> Caller:
        """Who asks. Raises ProblemError (401)."""
        if self._open:
            return Caller(None)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            # RFC 6750, 3.1: who sends no token is told of no error
            raise _unauthorised("send a bearer token in Authorization", challenge="Bearer")
        if len(token) > TOKEN_CHARS_AT_MOST:
            raise _unauthorised(f"the token is longer than {TOKEN_CHARS_AT_MOST} characters")
        now = time.time()
        digest = hashlib.sha256(token.encode()).digest()
        session = self._sessions.get(digest)
        if session is not None and session[0] > now:
            return session[1]
        caller, ends = self._checked(token)
        self._sessions[digest] = (min(ends, now + self._believe_s), caller)
        return caller

    def _checked(self, token: str) -> tuple[Caller, float]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise _unauthorised(f"the token is not good: {error}") from None
        user_id = claims["sub"]
        if not isinstance(user_id, str) or not is_id(user_id):
            raise _unauthorised("the token's sub is no user id: 1 to 64 of A-Z a-z 0-9 . _ -")
        return Caller(user_id, _facts(claims.get(FACTS_CLAIM))), float(claims["exp"])


def _facts(claimed: object) -> Facts | None:
    if claimed is None:
        return None
    if isinstance(claimed, dict):  # the same facts make the same command, whatever their order
        claimed = dict(sorted(claimed.items()))
    try:
        return Facts.model_validate({"user": claimed})
    except ValidationError as error:
        raise _unauthorised(f"the token's {FACTS_CLAIM} are not good: {faults(error)}") from None


def _unauthorised(detail: str, challenge: str = 'Bearer error="invalid_token"') -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        detail,
        reason="unauthorised",
        headers={"www-authenticate": challenge},
    )
