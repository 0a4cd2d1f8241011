"""The operators' routes: what is refused before the database is asked, and what is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from order_orchestrator.api import OperatorApi
from order_orchestrator.chunk import Sagas
from order_orchestrator.documents import saga_document
from order_orchestrator.domain import Limits
from order_orchestrator.store import SagaMemory
from shared.acting import MAX_BODY_BYTES
from shared.admin import admin_app
from shared.contracts.base import format_time
from shared.contracts.order_parts import LineDetail, PaymentChoice, PaymentMethod

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PART = b"x" * 1_024
PARTS = 100


def client(pool: Any = None, work: Any = None) -> httpx.AsyncClient:
    """A client of the routes; without a pool, whoever asks the database fails."""
    routes = OperatorApi(pool, work, Sagas(Limits(), SagaMemory(10))).routes()
    transport = httpx.ASGITransport(admin_app({}, routes))
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


class Body:
    """A long body, sent as it is taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(PARTS):
            self.taken += len(PART)
            yield PART


@pytest.mark.parametrize("action", ["cancel", "retry", "settle"])
async def test_a_long_body_is_refused_while_it_comes(action: str) -> None:
    body = Body()
    async with client() as admin:
        answer = await admin.post(f"/sagas/o-1/{action}", content=body)
    assert (answer.status_code, answer.json()["title"]) == (413, "Body too large")
    assert body.taken <= MAX_BODY_BYTES + len(PART)


async def test_a_long_body_that_is_announced_is_not_read() -> None:
    body = Body()
    announced = {"content-length": str(PARTS * len(PART))}
    async with client() as admin:
        answer = await admin.post("/sagas/o-1/cancel", content=body, headers=announced)
    assert (answer.status_code, body.taken) == (413, 0)


@pytest.mark.parametrize("order_id", ["%00", "a%20b", "x" * 65, "%1b[31m", "%E2%82%AC", "o%0A"])
async def test_what_is_no_order_id_is_not_asked_for(order_id: str) -> None:
    async with client() as admin:
        answers = [
            await admin.get(f"/sagas/{order_id}"),
            await admin.post(f"/sagas/{order_id}/retry", json={"operator": "ann", "note": "why"}),
        ]
    for answer in answers:
        assert (answer.status_code, answer.json()["title"]) == (404, "Unknown order")
        assert "is no order id: 1 to 64 of A-Z a-z 0-9 . _ -" in answer.json()["detail"]


class HangingWork:
    """A database that hangs, and takes its time to give up."""

    async def run(self, do: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()


async def test_f44_a_database_that_hangs_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.admin.ANSWER_WITHIN_S", 0.01)
    async with client(work=HangingWork()) as admin:
        answer = await asyncio.wait_for(
            admin.post("/sagas/o-1/retry", json={"operator": "ann", "note": "why"}), timeout=5
        )
    assert (answer.status_code, answer.json()["detail"]) == (503, "the database doesn't answer")


def test_what_was_ordered_is_told(lead: Any) -> None:
    order = lead(later=True, points=50, expected_total=2_700)
    ordered = saga_document(order.saga, Limits())["ordered"]
    assert ordered["items"] == [
        {"productId": "P001", "quantity": 2},
        {"productId": "P002", "quantity": 1},
    ]
    assert (ordered["userId"], ordered["couponId"], ordered["pay"], ordered["reference"]) == (
        "user_1", "WELCOME10", "later", "ref",
    )  # fmt: skip
    assert (ordered["total"], ordered["expectedTotal"]) == (None, 2_700)
    assert ordered["payment"] == {"method": "wallet", "points": 50}

    order.feed(order.done("reserve"))
    order.feed(order.done("hold"))
    order.feed(order.pay(payment=PaymentChoice(method=PaymentMethod.GATEWAY)))
    ordered = saga_document(order.saga, Limits())["ordered"]
    assert ordered["items"][0] == {"productId": "P001", "quantity": 2, "unitPrice": 1_000}
    assert (ordered["total"], ordered["discount"], ordered["currency"]) == (2_700, 300, "KRW")
    assert ordered["payment"] == {"method": "gateway", "points": 0}


def test_the_deadline_that_is_told_is_the_one_that_is_kept(lead: Any) -> None:
    """A charge at the gateway has the settlement window too, and still had it when all is over."""
    limits = Limits(settlement_window=timedelta(seconds=7))
    for method, window in (
        (PaymentMethod.WALLET, timedelta(0)),
        (PaymentMethod.GATEWAY, limits.settlement_window),
    ):
        order = lead(method=method, limits=limits)

        def told(order: Any = order) -> str:
            deadline: str = saga_document(order.saga, limits)["deadlineAt"]
            return deadline

        deadline = order.saga.deadline_at
        assert told() == format_time(deadline), "reserving units has no window"
        order.run_to("charge")
        assert told() == format_time(deadline + window)
        order.run_to("commit").complete()
        assert told() == format_time(deadline + window)
    order = lead(start=False)
    assert saga_document(order.saga, limits)["deadlineAt"] is None


def test_a_rejection_tells_which_product_was_short(lead: Any) -> None:
    order = lead()
    short = LineDetail(product_id="P001", requested=2, available=1)
    order.feed(order.refused("reserve").model_copy(update={"details": (short,)}))
    document = saga_document(order.saga, Limits())
    assert document["reason"] == "out_of_stock"
    assert document["details"] == [{"productId": "P001", "requested": 2, "available": 1}]

    order = lead().run_to("hold")
    order.feed(order.refused("hold"))
    assert saga_document(order.saga, Limits())["details"] == [{"couponReason": "expired"}]
