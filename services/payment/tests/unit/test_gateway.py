"""What each HTTP answer of the gateway means. Whatever it says, nothing raises."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from payment.calls import (
    Absent,
    Call,
    Captured,
    Contradiction,
    Declined,
    NotTaken,
    Refunded,
    Silent,
    key_of,
)
from payment.gateway import Gateway
from shared.contracts.payment import CallKind, CallState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UNTIL = datetime(2026, 1, 1, 0, 0, 10, 123456, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def call_of(kind: CallKind, **changes: Any) -> Call:
    call = Call(key_of(kind, "o1"), "o1", kind, CallState.INTENDED, "u1", 60, "KRW", "c", "")
    return replace(call, **changes)


CHARGE = call_of(CallKind.CHARGE)
REFUND = call_of(CallKind.REFUND, reference="ch_1")
CHARGED = {
    "id": "ch_1", "idempotencyKey": "payment:o1", "status": "captured", "amount": 60,
    "currency": "KRW", "reference": "o1", "customer": "u1", "refunded": 0, "declineCode": None,
    "createdAt": "2026-01-01T00:00:00.000Z",
}  # fmt: skip
REFUNDED = {"id": "re_1", "idempotencyKey": "refund:o1", "charge": "ch_1", "status": "succeeded",
            "amount": 60, "currency": "KRW", "createdAt": "2026-01-01T00:00:00.000Z"}  # fmt: skip
CAPTURED = Captured("ch_1", 60, "KRW")


class Provider:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes, dict[str, str]]] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.url = ""

    def answers(self, status: int, body: object = b"", **headers: str) -> Provider:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append((status, raw, headers))
        return self

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(
            (request.method, request.path_qs, dict(request.headers), body and json.loads(body))
        )
        status, body, headers = self.replies.pop(0)
        return web.Response(status=status, body=body, headers=headers)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.serve)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("/"))
        yield provider


@pytest.fixture
async def gateway(provider: Provider) -> AsyncIterator[Gateway]:
    gateway = Gateway(provider.url, "secret", timeout_s=5.0)
    yield gateway
    await gateway.close()


def problem(code: str) -> dict[str, object]:
    return {"code": code, "title": "", "detail": "", "status": 400}


async def test_a_charge_is_asked_for_by_the_contract(provider: Provider, gateway: Gateway) -> None:
    call = replace(CHARGE, traceparent=TRACEPARENT, callback_url="http://here/gateway/callbacks")
    provider.answers(201, CHARGED)
    assert await gateway.send(call, UNTIL) == CAPTURED
    ((method, path, headers, body),) = provider.requests
    assert (method, path) == ("POST", "/v1/charges")
    assert body == {"amount": 60, "currency": "KRW", "reference": "o1", "customer": "u1",
                    "callbackUrl": "http://here/gateway/callbacks"}  # fmt: skip
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Idempotency-Key"] == "payment:o1"
    assert headers["Request-Expires"] == "2026-01-01T00:00:10.123Z"
    assert headers["traceparent"] == TRACEPARENT


async def test_a_refund_and_inquiries_are_asked_for_by_the_contract(
    provider: Provider, gateway: Gateway
) -> None:
    provider.answers(201, REFUNDED).answers(200, {"charges": []}).answers(200, {"refunds": []})
    provider.answers(200, CHARGED)
    assert await gateway.send(REFUND, UNTIL) == Refunded(60, "KRW")
    assert await gateway.find(CHARGE) == Absent()
    assert await gateway.find(REFUND) == Absent()
    assert [(method, path) for method, path, _, _ in provider.requests] == [
        ("POST", "/v1/refunds"),
        ("GET", "/v1/charges?idempotencyKey=payment:o1"),
        ("GET", "/v1/refunds?idempotencyKey=refund:o1"),
        ("GET", "/v1/charges/ch_1"),
    ]
    _, _, headers, body = provider.requests[0]
    assert body == {"charge": "ch_1", "amount": 60, "currency": "KRW"}
    assert "traceparent" not in headers


PROCESSING = Silent("processing", is_failure=False)
KEY = "asked for payment:o1, told of another key"
SENT: dict[str, tuple[int, object, object]] = {
    "captured": (201, CHARGED, CAPTURED),
    "captured before": (200, CHARGED, CAPTURED),
    "accepted": (202, CHARGED | {"status": "processing"}, PROCESSING),
    "declined": (201, CHARGED | {"status": "declined", "declineCode": "lost"}, Declined("lost")),
    "declined without a code": (201, CHARGED | {"status": "declined"}, Declined("declined")),
    "another amount": (201, CHARGED | {"amount": 61}, Captured("ch_1", 61, "KRW")),
    "another currency": (201, CHARGED | {"currency": "USD"}, Captured("ch_1", 60, "USD")),
    "huge": (201, CHARGED | {"amount": 10**30}, Captured("ch_1", 10**30, "KRW")),
    "given back by hand": (200, CHARGED | {"refunded": 60}, Declined("returned")),
    "given back in part": (200, CHARGED | {"refunded": 59}, CAPTURED),
    "another key": (201, CHARGED | {"idempotencyKey": "payment:o2"}, Silent(KEY)),
    "card declined": (402, problem("card_declined"), Declined("card_declined")),
    "declined by status alone": (402, b"<html>", Declined("declined")),
    "expired": (400, problem("request_expired"),
                NotTaken("expired before it was taken: are its clock and the database's right?")),
    "in flight": (409, problem("idempotency_key_in_flight"),
                  Silent("the same key is under way", is_failure=False)),
    "reused": (422, problem("idempotency_key_reused"),
               Contradiction("422 idempotency_key_reused")),
    "invalid": (400, problem("invalid_request"), Contradiction("400 invalid_request")),
    "refused without a code": (400, b"no", Silent("400")),
    "not found": (404, problem("charge_not_found"), Contradiction("404 charge_not_found")),
    "no such page": (404, b"nginx", Silent("404")),
    "unauthorized": (401, b"", NotTaken("401: is GATEWAY_API_KEY right?")),
    "forbidden": (403, problem("forbidden"), NotTaken("403: is GATEWAY_API_KEY right?")),
    "broken": (500, problem("internal"), Silent("500 internal")),
    "unavailable": (503, b"", Silent("503")),
    "teapot": (418, b"", Silent("418")),
    "nothing": (204, b"", Silent("204")),
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
async def test_f24_f28_each_answer_to_a_charge(
    provider: Provider, gateway: Gateway, name: str
) -> None:
    status, body, meaning = SENT[name]
    provider.answers(status, body)
    assert await gateway.send(CHARGE, UNTIL) == meaning


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, REFUNDED, Refunded(60, "KRW")),
        (201, REFUNDED | {"status": "processing"}, PROCESSING),
        (201, REFUNDED | {"amount": 59}, Refunded(59, "KRW")),
        (404, problem("charge_not_found"), Contradiction("404 charge_not_found")),
        (422, problem("refund_exceeds_charge"), Contradiction("422 refund_exceeds_charge")),
        (422, problem("charge_not_captured"), Contradiction("422 charge_not_captured")),
        (402, problem("card_declined"), Silent("402 card_declined")),
        (500, b"", Silent("500")),
    ],
)
async def test_f30_each_answer_to_a_refund(
    provider: Provider, gateway: Gateway, status: int, body: object, meaning: object
) -> None:
    provider.answers(status, body)
    assert await gateway.send(REFUND, UNTIL) == meaning


GARBAGE: list[object] = [
    b"", b"{", b"\xff\xfe", b"null", b"[]", b"true", b"NaN", b"<html>", {}, [CHARGED],
    *({name: value for name, value in CHARGED.items() if name != left_out}
      for left_out in ("id", "idempotencyKey", "status", "amount", "currency")),
    *(CHARGED | change for change in (
        {"id": ""}, {"id": None}, {"id": 7}, {"status": "won"}, {"status": None},
        {"amount": "60"}, {"amount": 60.0}, {"amount": 60.5}, {"amount": True}, {"amount": None},
        {"currency": 1}, {"currency": "X" * 9}, {"refunded": "0"}, {"declineCode": 3},
        {"idempotencyKey": "k" * 256})),
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE)
async def test_f24_an_unreadable_answer_tells_nothing(
    provider: Provider, gateway: Gateway, body: object
) -> None:
    listed = body if isinstance(body, bytes) else {"charges": [body]}
    provider.answers(201, body).answers(200, listed).answers(200, {"refunds": 3})
    for answer in (await gateway.send(CHARGE, UNTIL), await gateway.find(CHARGE),
                   await gateway.find(REFUND)):  # fmt: skip
        assert isinstance(answer, Silent)
        assert answer.is_failure
        assert len(answer.why) <= 200


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("0", 0.0), ("", 1.0), ("-3", 1.0), ("86400", 60.0), ("inf", 60.0),
     ("nan", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)],
)  # fmt: skip
async def test_f28_too_many_requests_were_not_taken(
    provider: Provider, gateway: Gateway, retry_after: str, seconds: float
) -> None:
    for _ in range(2):
        provider.answers(429, problem("too_many_requests"), Retry_After=retry_after)
    expected = NotTaken("too many requests", seconds, is_failure=False)
    assert await gateway.send(CHARGE, UNTIL) == expected
    assert await gateway.find(CHARGE) == expected


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(
    provider: Provider, gateway: Gateway, status: int
) -> None:
    """The key must not reach who asks for it."""
    provider.answers(status, Location=provider.url).answers(status, Location=provider.url)
    assert await gateway.send(CHARGE, UNTIL) == Silent(str(status))
    assert await gateway.find(CHARGE) == Silent(str(status))
    assert len(provider.requests) == 2


async def test_an_inquiry_finds_one_or_none_and_more_are_a_contradiction(
    provider: Provider, gateway: Gateway
) -> None:
    provider.answers(200, {"charges": [CHARGED], "next": None})
    provider.answers(200, {"charges": [CHARGED, CHARGED]})
    provider.answers(200, {"charges": [CHARGED | {"idempotencyKey": "payment:o2"}]})
    provider.answers(404, problem("charge_not_found")).answers(500, b"")
    assert await gateway.find(CHARGE) == CAPTURED
    assert isinstance(await gateway.find(CHARGE), Contradiction)
    assert await gateway.find(CHARGE) == Silent(KEY)
    for _ in range(2):
        assert isinstance(await gateway.find(CHARGE), Silent), "an error is no absence"


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, CHARGED | {"refunded": 60}, Refunded(60, "KRW")),
        (200, CHARGED | {"refunded": 59}, Absent()),
        (404, problem("charge_not_found"), Absent()),
    ],
)
async def test_f30_money_that_somebody_gave_back_by_hand_is_found(
    provider: Provider, gateway: Gateway, status: int, body: object, meaning: object
) -> None:
    provider.answers(200, {"refunds": []}).answers(status, body)
    assert await gateway.find(REFUND) == meaning


@pytest.mark.parametrize(("status", "body"), [(200, b"{"), (500, b"")])
async def test_f30_what_is_not_said_is_no_absence(
    provider: Provider, gateway: Gateway, status: int, body: object
) -> None:
    provider.answers(200, {"refunds": []}).answers(status, body)
    assert isinstance(await gateway.find(REFUND), Silent)
