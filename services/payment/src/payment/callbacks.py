"""Callbacks of the gateway: signed, heard once, and never taken back.

The signature is over the bytes as they came, with the moment of sending: what is older than
`WINDOW_S` is refused, so that a recorded callback can't be played again for ever. A callback is
answered 200 once what it says is committed, so that the gateway sends it again where it isn't.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from payment.calls import Captured, Declined, Finding, Refunded, key_of
from payment.gateway import GATEWAY_ID, Charge, Refund
from payment.metrics import CALLBACKS
from payment.settler import TooManyWaitingError
from shared.admin import json_problem, read_body
from shared.contracts.ids import is_id
from shared.contracts.payment import CallKind
from shared.telemetry.logs import Seldom

if TYPE_CHECKING:
    from starlette.requests import Request

    from payment.settler import Inflow

_log = Seldom(__name__)

PATH: Final = "/gateway/callbacks"
WINDOW_S: Final = 300
MAX_BODY_BYTES: Final = 64 * 1024
BODY_WITHIN_S: Final = 5.0
SETTLED_WITHIN_S: Final = 2.5
"""Below the time after which a gateway takes a callback for lost."""

_SIGNATURE: Final = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})", re.ASCII)


class _Event(BaseModel):
    id: Annotated[str, Field(pattern=GATEWAY_ID)]


class _ChargeEvent(_Event):
    type: Literal["charge.processing", "charge.captured", "charge.declined"]
    data: Charge


class _RefundEvent(_Event):
    type: Literal["refund.processing", "refund.succeeded", "refund.failed"]
    data: Refund


_EVENT: Final[TypeAdapter[_ChargeEvent | _RefundEvent]] = TypeAdapter(
    Annotated[_ChargeEvent | _RefundEvent, Field(discriminator="type")]
)


class SignatureError(Exception):
    """The callback is not the gateway's, or not of now."""


class Signature(NamedTuple):
    """What the header says."""

    sent_at: str
    """Seconds since 1970, as they came: a part of what is signed."""
    digest: str


def read_signature(header: str) -> Signature:
    """Raises `SignatureError` where it is none."""
    found = _SIGNATURE.fullmatch(header)
    if found is None:
        raise SignatureError("Gateway-Signature must read t=SECONDS,v1=HEX")
    return Signature(*found.groups())


def check_signature(secret: bytes, header: str, body: bytes, now_s: float) -> None:
    """Raises `SignatureError` unless `header` signs `body` with `secret`, within the window."""
    signature = read_signature(header)
    signed = signature.sent_at.encode() + b"." + body
    expected = hmac.new(secret, signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature.digest):
        raise SignatureError("the signature is not over these bytes with this secret")
    age_s = now_s - int(signature.sent_at)
    if abs(age_s) > WINDOW_S:
        raise SignatureError(
            f"signed {age_s:.0f} s ago; {WINDOW_S} s are allowed. Compare the clocks"
        )


class Callbacks:
    """The route that the gateway calls."""

    def __init__(self, inflow: Inflow, secret: str) -> None:
        """`secret` is shared with the gateway."""
        self._inflow = inflow
        self._secret = secret.encode()

    def routes(self) -> list[Route]:
        """All that this port serves."""
        return [Route(PATH, self.hear, methods=["POST"])]

    async def hear(self, request: Request) -> Response:
        """Take one callback. What isn't signed at all, or too long, is not read."""
        try:
            header = request.headers.get("Gateway-Signature", "")
            read_signature(header)
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await read_body(request, MAX_BODY_BYTES)
            if body is None:
                detail = f"over {MAX_BODY_BYTES} bytes"
                return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail)
            check_signature(self._secret, header, body, time.time())
        except SignatureError as error:
            _log.warning("callback_refused", detail=str(error))
            return _refused(HTTPStatus.UNAUTHORIZED, "bad_signature", str(error))
        except TimeoutError:
            return _refused(HTTPStatus.REQUEST_TIMEOUT, "slow", "the body did not come in time")
        except ClientDisconnect:
            return _refused(HTTPStatus.BAD_REQUEST, "cut_off", "the body did not come whole")
        try:
            event = _EVENT.validate_json(body)
        except ValidationError as error:
            # A type of a later version, as a rule: sending it again would change nothing.
            detail = error.errors(include_url=False, include_input=False)[0]["msg"]
            _log.warning("callback_unreadable", detail=detail[:200])
            CALLBACKS.labels("unreadable").inc()
            return JSONResponse({"taken": False, "detail": "not understood, and passed over"})
        return await self._settle(event)

    async def _settle(self, event: _ChargeEvent | _RefundEvent) -> Response:
        finding = _finding(event)
        if finding is None:
            CALLBACKS.labels("no_news").inc()
            return JSONResponse({"taken": True})
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                await self._inflow.hear(finding, event.id)
        except TooManyWaitingError:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many callbacks wait")
        except Exception as error:  # noqa: BLE001 - told; the gateway sends it again
            return _refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "not_settled", f"{type(error).__name__}; send again"
            )
        CALLBACKS.labels("taken").inc()
        return JSONResponse({"taken": True})


def _finding(event: _ChargeEvent | _RefundEvent) -> Finding | None:
    """What it says for certain; None for what only tells that the gateway is at work, or that
    concerns no key of ours."""
    if not event.type.endswith(f".{event.data.status}"):
        return None  # it contradicts itself, or is older than what it tells of
    meaning = event.data.meaning()
    kind = CallKind.CHARGE if isinstance(event, _ChargeEvent) else CallKind.REFUND
    key = event.data.idempotency_key
    order_id = key.partition(":")[2]
    if not is_id(order_id) or key != key_of(kind, order_id):
        return None
    if isinstance(meaning, Captured | Declined | Refunded):
        return Finding(key, meaning)
    return None


def _refused(status: int, outcome: str, detail: str) -> Response:
    CALLBACKS.labels(outcome).inc()
    return json_problem(status, "Callback refused", detail)
