"""The gateway's book over HTTP: what is asked, what is borne, and what is told where it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shared.reconciliation import gateway
from shared.reconciliation.gateway import GatewayAccess, GatewayBook, GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "canary-key"
CHARGE = {
    "id": "ch_1", "idempotencyKey": "payment:o-1", "status": "captured", "amount": 1200,
    "currency": "KRW", "reference": "o-1", "customer": "user_1", "refunded": 0,
    "declineCode": None, "createdAt": "2026-01-31T09:00:00.000Z",
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of them in earnest."""
    pauses: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    monkeypatch.setattr(gateway.asyncio, "sleep", sleep)
    return pauses


def book(
    reply: Callable[[httpx.Request], httpx.Response], url: str = "http://gateway:9"
) -> GatewayBook:
    return GatewayBook(GatewayAccess(url, KEY), httpx.MockTransport(reply))


def answers(status: int, body: Any = None, **headers: str) -> Callable[..., httpx.Response]:
    return lambda _: httpx.Response(status, json=body, headers=headers)


async def test_the_book_is_read_page_by_page_with_the_key() -> None:
    asked: list[httpx.Request] = []
    pages = [
        {"charges": [CHARGE, CHARGE | {"id": "ch_2"}], "next": "ch_2"},
        {"charges": [CHARGE | {"id": "ch_3", "reference": None}], "next": None},
    ]

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=pages[len(asked) - 1])

    async with book(reply, "http://gateway:9/shop") as found:
        read = [[charge.id for charge in page] async for page in found.pages()]
    assert read == [["ch_1", "ch_2"], ["ch_3"]]
    assert [str(request.url) for request in asked] == [
        "http://gateway:9/shop/v1/charges?limit=1000",
        "http://gateway:9/shop/v1/charges?limit=1000&startingAfter=ch_2",
    ]
    assert {request.headers["Authorization"] for request in asked} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("charges", [[], [CHARGE]])
async def test_a_book_that_does_not_go_on_is_no_endless_one(charges: list[Any]) -> None:
    async with book(answers(200, {"charges": charges, "next": "ch_1"})) as found:
        with pytest.raises(GatewayError, match="doesn't go on behind 'ch_1'"):
            [page async for page in found.pages()]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_f28_what_passes_is_borne(status: int, impatient: list[float]) -> None:
    statuses = [status] * (gateway.TRIES - 1) + [200]

    def reply(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            statuses.pop(0), json={"charges": [CHARGE]}, headers={"Retry-After": "3"}
        )

    async with book(reply) as found:
        (charge,) = await found.charges_of("payment:o-1")
    assert charge.amount == 1200
    assert impatient == [3.0] * (gateway.TRIES - 1)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (answers(401, {"code": "unauthorized"}), "answers 401: it doesn't know GATEWAY_API_KEY"),
        (answers(404), "answers 404 to /v1/charges: is that the gateway's address"),
        (answers(400, {"detail": "limit: too big"}), "answers 400: limit: too big"),
        (answers(503, {"title": "Closed"}), "answers 503: Closed"),
        (answers(200, {"ok": True}), "is no book: charges: Field required"),
        (answers(200, {"charges": [CHARGE | {"amount": "1"}]}), "charges.0.amount: "),
        (answers(200, {"charges": [CHARGE | {"status": "lost"}]}), "charges.0.status: "),
        (lambda _: httpx.Response(200, text="<html>"), "is no book: the answer: "),
    ],
    ids=["key", "path", "refused", "closed", "fields", "amount", "status", "html"],
)
async def test_what_fails_is_told_with_what_helps(
    reply: Callable[[httpx.Request], httpx.Response], problem: str
) -> None:
    async with book(reply, "http://user:secret@gateway:9") as found:
        with pytest.raises(GatewayError) as told:
            await found.charges_of("payment:o-1")
    assert problem in str(told.value)
    assert "GATEWAY_URL (gateway:9)" in str(told.value)
    assert KEY not in str(told.value)
    assert "secret" not in str(told.value)


async def test_f33_a_gateway_that_is_away_is_told_after_some_tries(impatient: list[float]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with book(refuse) as found:
        with pytest.raises(GatewayError, match="can't be reached: refused; is it up"):
            await found.refunds_of("refund:o-1")
    assert impatient == [0.25, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("url", ["gateway:9", "ftp://gateway", "http://", "http://gateway:x"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(GatewayError, match="GATEWAY_URL is no address; write it as http://"):
        GatewayBook(GatewayAccess(url, KEY))


@pytest.mark.parametrize("key", ["", "schlüssel☂"])
def test_a_key_that_is_none_is_told(key: str) -> None:
    with pytest.raises(GatewayError, match="GATEWAY_API_KEY"):
        GatewayBook(GatewayAccess("http://gateway", key))


async def test_a_charge_that_is_not_there_is_none() -> None:
    async with book(answers(404, {"code": "charge_not_found"})) as found:
        assert await found.charge("ch_404") is None
    async with book(answers(200, CHARGE)) as found:
        charge = await found.charge("ch_1")
    assert charge is not None
    assert charge.reference == "o-1"


def test_the_key_stands_in_no_text() -> None:
    access = GatewayAccess("http://gateway", KEY)
    assert KEY not in f"{access} {access!r} {json.dumps(str(access))}"
