"""The endpoints in one event loop, where the order of things is the test's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway_simulator.admin import Admin
from gateway_simulator.app import Provider
from gateway_simulator.book import Book
from gateway_simulator.fault_memory import FaultMemory
from gateway_simulator.main import application
from gateway_simulator.outbox import Outbox
from gateway_simulator.store import Store
from gateway_simulator.waiting import Alarm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW_MS = 1_700_000_000_000
NOW, LATER = "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.001Z"
BODY = {"amount": 1_200, "currency": "KRW", "reference": "o-1", "customer": "ann"}


class Shop:
    """The application without a network, at a moment that stands still until it is set."""

    def __init__(self, path: Path) -> None:
        self.now_ms = NOW_MS
        self.store = Store(path)
        alarm = Alarm(self.clock)
        book = Book(
            self.store, Outbox(self.store, self.clock), key_retention_s=60, clock_ms=self.clock
        )
        faults = FaultMemory(self.store)
        provider = Provider(
            self.store, book, faults, api_key="k", clock_ms=self.clock, dues=alarm, events=alarm
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(application(provider, Admin(self.store, faults))),
            base_url="http://gateway",
            headers={"Authorization": "Bearer k"},
        )

    def clock(self) -> int:
        return self.now_ms

    async def charge(self, key: str, **headers: str) -> httpx.Response:
        headers = {"Idempotency-Key": key} | {k.replace("_", "-"): v for k, v in headers.items()}
        return await self.client.post("/v1/charges", json=BODY, headers=headers)

    async def charges(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.get("/v1/charges")).json()["charges"]
        return found


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path / "book.sqlite")
    yield shop
    await shop.client.aclose()
    shop.store.close()


async def test_f29_of_two_requests_at_once_one_charges_and_one_is_told_to_wait(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.charge("k") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {
        "idempotency_key_in_flight"
    }
    again = await shop.charge("k")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert len(await shop.charges()) == 1


async def test_a_request_is_taken_until_it_expires(shop: Shop) -> None:
    assert (await shop.charge("a", Request_Expires=NOW)).status_code == 201
    shop.now_ms += 1
    refused = await shop.charge("b", Request_Expires=NOW)
    assert (refused.status_code, refused.json()["code"]) == (400, "request_expired")
    assert (await shop.charge("b", Request_Expires=LATER)).status_code == 201
    for wrong in ("soon", "2023-11-14T22:13:20.000"):
        refused = await shop.charge("c", Request_Expires=wrong)
        assert refused.json()["code"] == "invalid_request"
        assert "Request-Expires" in refused.json()["detail"]


async def test_a_request_that_expires_while_it_is_delayed_is_not_taken(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def passes(seconds: float) -> None:
        shop.now_ms += int(seconds * 1_000)

    monkeypatch.setattr("gateway_simulator.app.asyncio.sleep", passes)
    rules = [{"fault": "latency", "seconds": 2}]
    await shop.client.put("/admin/faults", json={"rules": rules})
    refused = await shop.charge("k", Request_Expires=LATER)
    assert refused.json()["code"] == "request_expired"
    assert await shop.charges() == []


async def test_a_defect_is_told_as_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Book, "page", broken)
    shop.client._transport.raise_app_exceptions = False  # type: ignore[attr-defined]
    answer = await shop.client.get("/v1/charges")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "a defect: ZeroDivisionError"
