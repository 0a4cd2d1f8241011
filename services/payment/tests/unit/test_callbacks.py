"""Callbacks: only the gateway's, of now, and answered once they are settled."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from payment import callbacks
from payment.callbacks import (
    MAX_BODY_BYTES,
    PATH,
    WINDOW_S,
    Callbacks,
    SignatureError,
    check_signature,
)
from payment.calls import Captured, Declined, Finding, Refunded
from payment.settler import TooManyWaitingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "shared with the gateway"
NOW = 1_767_225_600

CHARGE = {"id": "ch_1", "idempotencyKey": "payment:o1", "status": "captured", "amount": 60,
          "currency": "KRW", "refunded": 0, "declineCode": None}  # fmt: skip
REFUND = {"id": "re_1", "idempotencyKey": "refund:o1", "charge": "ch_1", "status": "succeeded",
          "amount": 60, "currency": "KRW"}  # fmt: skip


def event(type_: str = "charge.captured", id_: str = "evt_1", **data: object) -> dict[str, Any]:
    resource = REFUND if type_.startswith("refund") else CHARGE
    return {"id": id_, "type": type_, "createdAt": "now", "data": resource | data}


def sign(body: bytes, at_s: float = NOW, secret: str = SECRET) -> str:
    signed = f"{at_s:.0f}.".encode() + body
    return f"t={at_s:.0f},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def is_signed(header: str, body: bytes, now_s: float = NOW, secret: str = SECRET) -> bool:
    try:
        check_signature(secret.encode(), header, body, now_s)
    except SignatureError:
        return False
    return True


@given(st.binary(max_size=200), st.integers(-WINDOW_S, WINDOW_S))
def test_what_the_gateway_has_signed_within_the_window_is_taken(body: bytes, age_s: int) -> None:
    assert is_signed(sign(body), body, NOW + age_s)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_byte_is_refused(body: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert not is_signed(sign(body), bytes(changed))
    assert not is_signed(sign(body), body + b" ")


@given(st.binary(max_size=60), st.integers(WINDOW_S + 1, 10**8), st.sampled_from([-1, 1]))
def test_what_is_old_or_of_the_future_is_refused(body: bytes, age_s: int, sign_: int) -> None:
    assert not is_signed(sign(body), body, NOW + sign_ * age_s)


def test_the_moment_is_signed_too() -> None:
    later = sign(b"{}").replace(f"t={NOW}", f"t={NOW + 1}")
    assert not is_signed(later, b"{}")
    assert not is_signed(sign(b"{}", secret="another"), b"{}")


GOOD = sign(b"{}")
MALFORMED = [
    "", "t=", GOOD + " ", " " + GOOD, GOOD + ",v1=" + "0" * 64, GOOD.replace("v1", "v0"),
    GOOD.upper(), GOOD[:5] + GOOD[5:].upper(), GOOD.replace("=", ":"), GOOD[:-1], GOOD + "0",
    GOOD.replace("t=", "t=-"), GOOD.replace("t=", "t=0"), GOOD.replace(f"{NOW}", f"{NOW}.0"),
    GOOD.replace(f"{NOW}", "9" * 13), GOOD.replace(f"{NOW}", "١٧٦٧٢٢٥٦٠٠"), GOOD + "\n",
    ",".join(reversed(GOOD.split(","))),
]  # fmt: skip


@pytest.mark.parametrize("header", MALFORMED)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    assert is_signed(GOOD, b"{}")
    assert not is_signed(header, b"{}")


@given(st.text(), st.binary(max_size=20), st.floats(0, 2**40))
def test_no_header_raises_anything_else(header: str, body: bytes, now_s: float) -> None:
    assert not is_signed(header, body, now_s)


class Inflow:
    """Keeps what is heard, and settles it or doesn't."""

    def __init__(self) -> None:
        self.heard: list[tuple[Finding, str]] = []
        self.error: Exception | None = None
        self.settles = True

    async def hear(self, finding: Finding, event_id: str) -> None:
        self.heard.append((finding, event_id))
        if self.error is not None:
            raise self.error
        if not self.settles:
            await asyncio.Event().wait()


class Caller:
    """The gateway's side."""

    def __init__(self, inflow: Inflow, client: httpx.AsyncClient) -> None:
        self.inflow = inflow
        self._client = client

    async def post(self, content: Any, header: str | None = None) -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        signature = sign(body, time.time()) if header is None else header
        return await self._client.post(PATH, content=body, headers={"Gateway-Signature": signature})

    async def stream(self, parts: AsyncIterator[bytes]) -> httpx.Response:
        header = {"Gateway-Signature": sign(b"", time.time())}
        return await self._client.post(PATH, content=parts, headers=header)

    async def raw(self, parts: AsyncIterator[bytes], headers: dict[str, str]) -> httpx.Response:
        return await self._client.post(PATH, content=parts, headers=headers)

    @property
    def findings(self) -> list[Finding]:
        return [finding for finding, _ in self.inflow.heard]


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    inflow = Inflow()
    app = Starlette(routes=Callbacks(inflow, SECRET).routes())  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://payment") as client:
        yield Caller(inflow, client)


@pytest.mark.parametrize(
    ("sent", "finding"),
    [
        (event(), Finding("payment:o1", Captured("ch_1", 60, "KRW"))),
        (event(amount=61), Finding("payment:o1", Captured("ch_1", 61, "KRW"))),
        (event("charge.declined", status="declined", declineCode="lost"),
         Finding("payment:o1", Declined("lost"))),
        (event(refunded=60), Finding("payment:o1", Declined("returned"))),
        (event("refund.succeeded"), Finding("refund:o1", Refunded(60, "KRW"))),
    ],
)  # fmt: skip
async def test_f24_what_is_certain_is_heard_under_its_event_id(
    caller: Caller, sent: object, finding: Finding
) -> None:
    response = await caller.post(sent)
    assert (response.status_code, response.json()) == (200, {"taken": True})
    assert caller.inflow.heard == [(finding, "evt_1")]
    assert finding.attempt is None


async def test_an_event_that_comes_twice_is_heard_twice_under_one_id(caller: Caller) -> None:
    """The settler knows it again, since only the table of events is everybody's."""
    for _ in range(2):
        assert (await caller.post(event())).status_code == 200
    assert [event_id for _, event_id in caller.inflow.heard] == ["evt_1", "evt_1"]


@pytest.mark.parametrize(
    "sent",
    [
        event("charge.processing", status="processing"),
        event("refund.processing", status="processing"),
        event(idempotencyKey="o1"),
        event(idempotencyKey="refund:o1"),
        event(idempotencyKey="payment:"),
        event(idempotencyKey="payment:o1:again"),
        event(idempotencyKey="payment:" + "o" * 65),
        event(idempotencyKey="payment:o1\u0000"),
        event("refund.succeeded", idempotencyKey="payment:o1"),
        event(idempotencyKey="somebody else's"),
    ],
)
async def test_what_tells_nothing_or_is_of_no_key_of_ours_is_passed_over(
    caller: Caller, sent: object
) -> None:
    response = await caller.post(sent)
    assert response.status_code == 200
    assert not caller.inflow.heard


@pytest.mark.parametrize(
    "sent",
    [
        event("charge.disputed"), event("payout.paid"), {}, [], {"id": "evt_1"}, b"", b"{", b"null",
        b"\xff", event(id_=""), event(id_="e" * 256), event() | {"id": 7}, event() | {"data": None},
        event() | {"type": None}, event(amount="60"), event(amount=True), event(status="won"),
        event("refund.succeeded", status="captured"),
    ],
)  # fmt: skip
async def test_what_is_not_understood_is_not_sent_again(caller: Caller, sent: object) -> None:
    response = await caller.post(sent)
    assert (response.status_code, response.json()["taken"]) == (200, False)
    assert not caller.inflow.heard


async def test_an_unsigned_callback_is_refused_and_not_heard(caller: Caller) -> None:
    body = json.dumps(event()).encode()
    for header in ("", sign(body, time.time(), "another"), sign(body, time.time() - WINDOW_S - 9),
                   sign(body + b" ", time.time())):  # fmt: skip
        response = await caller.post(body, header)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert SECRET not in response.text
    assert not caller.inflow.heard


async def test_the_bytes_count_and_not_what_they_mean(caller: Caller) -> None:
    body = json.dumps(event()).encode()
    spaced = json.dumps(event(), indent=2).encode()
    assert (await caller.post(spaced, sign(body, time.time()))).status_code == 401
    assert (await caller.post(spaced)).status_code == 200


async def test_a_body_that_is_too_long_is_not_read_to_its_end(caller: Caller) -> None:
    fits = json.dumps(event(), indent=2).encode().ljust(MAX_BODY_BYTES)
    assert (await caller.post(fits)).status_code == 200
    assert (await caller.post(fits + b" ")).status_code == 413
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 8_192

    assert (await caller.stream(endless())).status_code == 413
    assert sent * 8_192 <= 2 * MAX_BODY_BYTES
    assert len(caller.inflow.heard) == 1


async def test_what_is_not_signed_at_all_is_not_read(caller: Caller) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    answer = await caller.post(b"{}", "no signature")
    assert answer.status_code == 401
    async with asyncio.timeout(5):
        headers = {"Gateway-Signature": "", "Content-Length": "9"}
        unread = await caller.raw(never(), headers)
    assert unread.status_code == 401


async def test_a_body_that_does_not_end_is_given_up(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "BODY_WITHIN_S", 0.05)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert (await caller.stream(stuck())).status_code == 408


async def test_what_is_not_settled_in_time_is_asked_for_again(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "SETTLED_WITHIN_S", 0.05)
    caller.inflow.settles = False
    assert (await caller.post(event())).status_code == 503


@pytest.mark.parametrize(
    "error", [TooManyWaitingError(), OSError("no database"), KeyError("payment:o1")]
)
async def test_what_can_not_be_settled_is_asked_for_again(caller: Caller, error: Exception) -> None:
    caller.inflow.error = error
    response = await caller.post(event())
    assert response.status_code == 503
    assert "payment:o1" not in response.text


async def test_nothing_but_a_post_is_served(caller: Caller) -> None:
    assert (await caller._client.get(PATH)).status_code == 405
    assert (await caller._client.post("/gateway")).status_code == 404
