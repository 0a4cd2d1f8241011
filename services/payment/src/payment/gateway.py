"""The gateway's HTTP interface: a request out, and what its answer means.

Nothing here is repeated, and nothing raises: a time-out is an answer too, `Silent`. What is known
for certain is told apart from what isn't: a request that never reached the gateway, or that it
refused to take, was `NotTaken`; after anything else but a clear word nobody knows.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from payment.calls import (
    RETURNED,
    Absent,
    Captured,
    Contradiction,
    Declined,
    NotTaken,
    Refunded,
    Silent,
)
from shared.contracts.base import format_time
from shared.contracts.payment import CallKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from payment.calls import Answer, Call

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_RETRY_AFTER_S: Final = 60.0
CONNECTED_WITHIN: Final = 0.5
"""Of the time that a request has. Past it nothing was sent, which is certain."""
_REFUSED: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


GATEWAY_ID: Final = r"^[!-~]{1,255}$"
"""Printable ASCII: what the gateway says goes into rows."""


class _Resource(BaseModel):
    model_config = ConfigDict(strict=True, alias_generator=to_camel, extra="ignore")

    id: str = Field(pattern=GATEWAY_ID)
    idempotency_key: str = Field(pattern=GATEWAY_ID)
    amount: int
    currency: str = Field(pattern=r"^[A-Za-z]{1,8}$")


class Charge(_Resource):
    """A charge as the gateway tells of it."""

    status: Literal["captured", "declined", "processing"]
    refunded: int = 0
    decline_code: str | None = None

    def meaning(self) -> Answer:
        """What it says of the call with its key."""
        match self.status:
            case "captured" if self.refunded and self.refunded == self.amount:
                return Declined(RETURNED)
            case "captured":
                return Captured(self.id, self.amount, self.currency)
            case "declined":
                return Declined(self.decline_code or "declined")
            case "processing":
                return Silent("processing", is_failure=False)


class Refund(_Resource):
    """A refund as the gateway tells of it."""

    status: Literal["succeeded", "processing", "failed"]

    def meaning(self) -> Answer:
        """What it says of the call with its key."""
        match self.status:
            case "succeeded":
                return Refunded(self.amount, self.currency)
            case "processing":
                return Silent("processing", is_failure=False)
            case "failed":
                return Contradiction("the gateway can't give the money back")


class _Charges(BaseModel):
    charges: list[Charge]


class _Refunds(BaseModel):
    refunds: list[Refund]


class _Problem(BaseModel):
    code: str = ""


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes
    retry_after: str


class Gateway:
    """A client of the gateway. One request a call, each within a time limit."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float) -> None:
        """`timeout_s` is for all of a request, from connecting to the last byte. Connects when it
        is first used."""
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._open: aiohttp.ClientSession | None = None

    async def send(self, call: Call, expires_at: datetime) -> Answer:
        """Ask for the charge or the refund, under its key. The gateway doesn't take it after
        `expires_at`."""
        body: dict[str, Any] = {"amount": call.amount, "currency": call.currency}
        if call.kind is CallKind.CHARGE:
            body |= {"reference": call.order_id, "customer": call.user_id}
        else:
            body["charge"] = call.reference
        if call.callback_url is not None:
            body["callbackUrl"] = call.callback_url
        headers = {"Idempotency-Key": call.key, "Request-Expires": format_time(expires_at)}
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        answered = await self._ask("POST", f"/v1/{call.kind}s", json=body, headers=headers)
        return _judge_sent(call, answered) if isinstance(answered, Reply) else answered

    async def find(self, call: Call) -> Answer:
        """Ask what came of the call, by its key."""
        found = await self._ask("GET", f"/v1/{call.kind}s", params={"idempotencyKey": call.key})
        if not isinstance(found, Reply):
            return Silent(found.why, found.is_failure)
        if found.status != HTTPStatus.OK:
            return _unclear(found)
        try:
            if call.kind is CallKind.CHARGE:
                charges = _Charges.model_validate_json(found.body).charges
                return _one(call, charges)
            refunds = _Refunds.model_validate_json(found.body).refunds
        except ValidationError as error:
            return Silent(f"unreadable answer: {error.errors()[0]['msg']}"[:200])
        if refunds or call.reference is None:
            return _one(call, refunds)
        return await self._find_given_back(call)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._open is not None:
            await self._open.close()

    async def _find_given_back(self, call: Call) -> Answer:
        """A refund whose key isn't known: somebody may have given the money back by hand."""
        found = await self._ask("GET", f"/v1/charges/{call.reference}")
        if not isinstance(found, Reply):
            return Silent(found.why, found.is_failure)
        if found.status == HTTPStatus.NOT_FOUND:
            return Absent()  # when it is sent, the gateway says what is wrong with it
        if found.status != HTTPStatus.OK:
            return _unclear(found)
        try:
            charge = Charge.model_validate_json(found.body)
        except ValidationError as error:
            return Silent(f"unreadable answer: {error.errors()[0]['msg']}"[:200])
        if charge.refunded >= call.amount:
            return Refunded(charge.refunded, charge.currency)
        return Absent()

    async def _ask(self, method: str, path: str, **options: Any) -> Reply | Silent | NotTaken:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._request(method, path, options)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotTaken(f"no connection: {error}"[:200])
        except TimeoutError:
            return Silent(f"no answer in {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Silent(f"{type(error).__name__}: {error}"[:200])

    async def _request(self, method: str, path: str, options: Mapping[str, Any]) -> Reply | Silent:
        async with self._session().request(
            method, self._url + path, allow_redirects=False, **options
        ) as response:
            body = b""
            async for part in response.content.iter_chunked(MAX_ANSWER_BYTES):
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    return Silent(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            return Reply(response.status, body, response.headers.get("Retry-After", ""))

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            self._open = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._api_key}"},
                # the limit on the whole is in `_ask`
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECTED_WITHIN * self._timeout_s
                ),
                connector=aiohttp.TCPConnector(limit=0),  # the courier counts
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._open


def _one(call: Call, found: list[Charge] | list[Refund]) -> Answer:
    if not found:
        return Absent()
    if len(found) > 1:
        return Contradiction(f"the gateway has {len(found)} {call.kind}s under {call.key}")
    if found[0].idempotency_key != call.key:
        return Silent(f"asked for {call.key}, told of another key")
    return found[0].meaning()


def _judge_sent(call: Call, response: Reply) -> Answer:
    resource: type[Charge | Refund] = Charge if call.kind is CallKind.CHARGE else Refund
    status = response.status
    if status in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
        try:
            found = resource.model_validate_json(response.body)
        except ValidationError as error:
            return Silent(f"unreadable answer: {error.errors()[0]['msg']}"[:200])
        if found.idempotency_key != call.key:
            return Silent(f"asked for {call.key}, told of another key")
        return found.meaning()
    code = _code(response)
    if status == HTTPStatus.PAYMENT_REQUIRED and call.kind is CallKind.CHARGE:
        return Declined(code or "declined")
    if code == "request_expired":
        return NotTaken("expired before it was taken: are its clock and the database's right?")
    if code == "idempotency_key_in_flight":
        return Silent("the same key is under way", is_failure=False)
    if status in _REFUSED and code:  # without a code it isn't the gateway that speaks
        return Contradiction(f"{status} {code}")
    return _unclear(response)


def _unclear(response: Reply) -> Silent | NotTaken:
    status = response.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return NotTaken("too many requests", _retry_after_s(response), is_failure=False)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return NotTaken(f"{status}: is GATEWAY_API_KEY right?")
    return Silent(f"{status} {_code(response)}".strip())


def _retry_after_s(response: Reply) -> float:
    try:
        wanted_s = float(response.retry_after or "1")
    except ValueError:
        return 1.0
    return min(wanted_s, MAX_RETRY_AFTER_S) if wanted_s >= 0 else 1.0


def _code(response: Reply) -> str:
    try:
        return _Problem.model_validate_json(response.body).code[:64]
    except ValidationError:
        return ""
