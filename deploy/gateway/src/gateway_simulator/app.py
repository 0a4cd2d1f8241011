"""The provider's HTTP interface, and what faults make of it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import math
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from gateway_simulator.fault_memory import NOTHING
from gateway_simulator.faults import fate
from gateway_simulator.problems import Refusal, invalid, told
from gateway_simulator.protocol import client_left, cut
from gateway_simulator.records import Charge, ChargeBody, RefundBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from starlette.requests import Request

    from gateway_simulator.book import Book, Taken
    from gateway_simulator.fault_memory import Drawn, FaultMemory
    from gateway_simulator.faults import Operation, Rule
    from gateway_simulator.store import Store
    from gateway_simulator.waiting import Alarm

KEY_HEADER: Final = "Idempotency-Key"
KEY_LENGTH: Final = 255
EXPIRES_HEADER: Final = "Request-Expires"
REPLAYED: Final = {"Idempotent-Replayed": "true"}
PAGE_AT_MOST: Final = 1_000
PAGE_USUAL: Final = 100
RETRY_AFTER_S: Final = 1.0


class Provider:
    """The endpoints below /v1."""

    def __init__(
        self,
        store: Store,
        book: Book,
        faults: FaultMemory,
        *,
        api_key: str,
        clock_ms: Callable[[], int],
        dues: Alarm,
        events: Alarm,
    ) -> None:
        """`clock_ms` tells milliseconds since the epoch. `dues` is rung where something is to be
        done later, `events` where something is to be told of."""
        self._store = store
        self._book = book
        self._faults = faults
        self._authorization = f"Bearer {api_key}".encode()
        self._clock_ms = clock_ms
        self._dues = dues
        self._events = events
        self._in_flight: set[str] = set()

    async def charge(self, request: Request) -> Response:
        """`POST /v1/charges`"""
        return await self._post(request, "charge", ChargeBody)

    async def refund(self, request: Request) -> Response:
        """`POST /v1/refunds`"""
        return await self._post(request, "refund", RefundBody)

    async def charges(self, request: Request) -> Response:
        """`GET /v1/charges`: the inquiry by key, or the book page by page."""
        key = request.query_params.get("idempotencyKey")
        if key is not None:
            found = await self._look(request, key, lambda: self._book.charge_by_key(key))
            return JSONResponse({"charges": [found.shown()] if found else []})
        return JSONResponse(await self._look(request, "", lambda: self._page(request)))

    async def refunds(self, request: Request) -> Response:
        """`GET /v1/refunds`: the inquiry by key."""
        key = request.query_params.get("idempotencyKey", "")
        found = await self._look(request, key, lambda: self._book.refund_by_key(key))
        return JSONResponse({"refunds": [found.shown()] if found else []})

    async def charge_by_id(self, request: Request) -> Response:
        """`GET /v1/charges/{id}`"""
        id_ = request.path_params["id"]
        found = await self._look(request, id_, lambda: self._book.charge(id_))
        return JSONResponse(found.shown())

    async def _post(
        self, request: Request, operation: Operation, model: type[ChargeBody | RefundBody]
    ) -> Response:
        key = request.headers.get(KEY_HEADER, "")
        content = await request.body()
        await self._admit(request, operation, key)
        if not 1 <= len(key) <= KEY_LENGTH:
            raise Refusal(
                400, "idempotency_key_missing", f"{KEY_HEADER} has 1 to {KEY_LENGTH} characters"
            )
        expires_ms = _expiry(request)
        self._check_expiry(expires_ms)
        try:
            body = model.model_validate_json(content)
        except ValidationError as error:
            raise invalid(told(error)) from error

        drawn = await self._drawn(operation, key)
        rule = drawn.request
        _refuse_before(rule)
        with self._held(key):
            await self._delay(request, rule)
            self._check_expiry(expires_ms)
            what = fate(rule, drawn.webhook, body)

            def take() -> Taken | None:
                if rule is None or rule.fault != "late" or self._book.known(key, body):
                    return self._book.take(key, body, what)
                self._book.postpone(key, body, what, rule.seconds or 0.0)
                return None

            taken = await self._store.do(take)
            if taken is None or what.status == "processing":
                self._dues.ring()
            elif body.callback_url is not None:
                self._events.ring()
            if taken is None:
                return await _leave_open(request, rule)
        await self._spoil(request, rule)
        return _answer(taken)

    async def _look(self, request: Request, key: str, find: Callable[[], Any]) -> Any:
        """What `find` finds, unless a fault on inquiries strikes."""
        await request.body()  # so that nothing but the client's leaving is still to be received
        await self._admit(request, "inquiry", key)
        rule = (await self._drawn("inquiry", key)).request
        _refuse_before(rule)
        await self._delay(request, rule)
        found = await self._store.do(find)
        await self._spoil(request, rule)
        return found

    def _page(self, request: Request) -> dict[str, Any]:
        text = request.query_params.get("limit", str(PAGE_USUAL))
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= PAGE_AT_MOST):
            raise invalid(f"limit: from 1 to {PAGE_AT_MOST}")
        return self._book.page(request.query_params.get("startingAfter"), int(text))

    async def _admit(self, request: Request, operation: Operation, key: str) -> None:
        """Raises Refusal where the provider is down or doesn't know the caller."""
        if self._faults.faults.rules:
            rule = await self._store.do(lambda: self._faults.draw_down(operation, key))
            if rule is not None and rule.how == "close":
                await cut(request)
            if rule is not None:
                raise Refusal(503, "unavailable", "the provider is down")
        given = request.headers.get("Authorization", "").encode(errors="replace")
        if not hmac.compare_digest(given, self._authorization):
            raise Refusal(
                401, "unauthorized", "Authorization: Bearer and the API key are needed",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    async def _drawn(self, operation: Operation, key: str) -> Drawn:
        if not self._faults.faults.rules:
            return NOTHING
        return await self._store.do(lambda: self._faults.draw(operation, key))

    def _check_expiry(self, expires_ms: float | None) -> None:
        if expires_ms is not None and self._clock_ms() > expires_ms:
            raise Refusal(
                400,
                "request_expired",
                f"{EXPIRES_HEADER} has passed; nothing was done and won't be",
            )

    @contextlib.contextmanager
    def _held(self, key: str) -> Iterator[None]:
        """Keep other requests with this key out."""
        if key in self._in_flight:
            raise Refusal(
                409, "idempotency_key_in_flight", f"a request with key {key!r} is being processed"
            )
        self._in_flight.add(key)
        try:
            yield
        finally:
            self._in_flight.discard(key)

    async def _delay(self, request: Request, rule: Rule | None) -> None:
        """What a fault does before anything is done."""
        if rule is not None and rule.fault == "latency":
            await asyncio.sleep(rule.seconds or 0.0)
        if rule is not None and rule.fault == "hang_before_charge":
            await _hang(request, rule.seconds)

    async def _spoil(self, request: Request, rule: Rule | None) -> None:
        """What a fault does once all is done and stored."""
        if rule is not None and rule.fault == "hang_after_charge":
            await _hang(request, rule.seconds)
        if rule is not None and rule.fault == "error_after_charge":
            raise Refusal(500, "internal_error", "a fault that was asked for")


def _refuse_before(rule: Rule | None) -> None:
    match rule.fault if rule else None:
        case "error_before_charge":
            raise Refusal(500, "internal_error", "a fault that was asked for")
        case "throttle":
            assert rule is not None
            seconds = math.ceil(RETRY_AFTER_S if rule.seconds is None else rule.seconds)
            raise Refusal(
                429, "too_many_requests", f"try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )  # fmt: skip


async def _hang(request: Request, at_most_s: float | None) -> NoReturn:
    """Keep the client waiting until it leaves, or for so long."""
    try:
        await asyncio.wait_for(client_left(request), at_most_s)
    except TimeoutError:
        pass
    except (
        asyncio.CancelledError
    ):  # the simulator ends: this client has had no answer, nor gets one
        await cut(request)
        raise
    raise _timed_out()


def _timed_out() -> Refusal:
    return Refusal(504, "timeout", "the provider didn't get done in time")


async def _leave_open(request: Request, rule: Rule | None) -> Response:
    """What is answered where a request was taken and left no trace."""
    how = rule.how if rule else ""
    if how == "hang":
        await _hang(request, None)
    if how == "504":
        raise _timed_out()
    return JSONResponse({"detail": "the request was accepted"}, status_code=202)


def _answer(taken: Taken) -> Response:
    record, headers = taken.record, REPLAYED if taken.replayed else {}
    if isinstance(record, Charge) and record.status == "declined":
        raise Refusal(
            402, "card_declined", f"declined: {record.decline_code}",
            headers=headers, charge=record.shown(),
        )  # fmt: skip
    return JSONResponse(record.shown(), 200 if taken.replayed else 201, headers=headers)


def _expiry(request: Request) -> float | None:
    """Milliseconds since the epoch; None where the request never expires."""
    text = request.headers.get(EXPIRES_HEADER)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise invalid(f"{EXPIRES_HEADER}: a moment in UTC as RFC 3339 has it")
    return moment.timestamp() * 1_000
