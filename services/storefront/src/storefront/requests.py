"""Headers of requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shared.telemetry.traceparents import TRACEPARENT
from storefront.problems import invalid

if TYPE_CHECKING:
    from starlette.requests import Request

KEY_CHARS: Final = 200
KEY_PATTERN: Final = "^[!-~]+$"
_KEY: Final = re.compile(rf"[!-~]{{1,{KEY_CHARS}}}")
_NOT_SAMPLED: Final = "00"


def idempotency_key(request: Request) -> str | None:
    """`Idempotency-Key`, where it is sent. Raises ProblemError (400)."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or _KEY.fullmatch(keys[0]) is None:
        raise invalid(f"Idempotency-Key: one, of 1 to {KEY_CHARS} visible ASCII characters")
    return keys[0]


def traceparent(request: Request) -> str | None:
    """The trace that the request belongs to, where it says so as W3C does. Whether it is sampled is
    not for whoever asks to say: what anybody may switch on costs every service."""
    found = TRACEPARENT.fullmatch(request.headers.get("traceparent", "").encode("latin-1"))
    return f"{found[1].decode()}-{_NOT_SAMPLED}" if found else None
