"""A gateway that keeps its book as a test says, and our own book of it in Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from shared.serving import HttpServer
from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from shared.testing.databases import Database

API_KEY = "right-key"
Document = dict[str, Any]


async def _nothing(_: str) -> None:
    return None


@dataclass
class FakeGateway:
    """The gateway's half of the contract that reading its book needs."""

    url: str = ""
    charges: list[Document] = field(default_factory=list)
    """In the order in which the book was written."""
    refunds: list[Document] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    """Keys that are past their retention: the book still has the lines."""
    asked: list[str] = field(default_factory=list)
    """Path and query of each request."""
    before: Callable[[str], Awaitable[None]] = _nothing
    """What happens as a request comes, before the book is looked at; it is told which."""
    after: Callable[[str], Awaitable[None]] = _nothing
    """What happens between the look at the book and the answer."""

    def charge(self, order_id: str | None, status: str = "captured", **fields: Any) -> Document:
        """One more charge: of 1,000 KRW under the order's key, unless `fields` say otherwise."""
        charge = {
            "id": f"ch_{len(self.charges) + 1:06}", "idempotencyKey": f"payment:{order_id}",
            "status": status, "amount": 1000, "currency": "KRW", "reference": order_id,
            "customer": "ann", "refunded": 0, "declineCode": None,
            "createdAt": "2026-01-31T09:00:00.000Z",
        } | fields  # fmt: skip
        self.charges.append(charge)
        return charge

    def refund(self, charge: Document, status: str = "succeeded", **fields: Any) -> Document:
        """One more refund: of all of the charge, under the order's key."""
        refund = {
            "id": f"re_{len(self.refunds) + 1:06}", "charge": charge["id"],
            "idempotencyKey": f"refund:{charge['reference']}", "status": status,
            "amount": charge["amount"], "currency": charge["currency"],
            "createdAt": "2026-01-31T09:00:00.000Z",
        } | fields  # fmt: skip
        charge["refunded"] += refund["amount"]
        self.refunds.append(refund)
        return refund

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/v1/charges", self._guarded(self._charges)),
                Route("/v1/charges/{id}", self._guarded(self._charge)),
                Route("/v1/refunds", self._guarded(self._refunds)),
            ]
        )

    def _guarded(self, answer: Callable[[Request], tuple[int, Document]]) -> Callable[..., Any]:
        async def guarded(request: Request) -> JSONResponse:
            if request.headers.get("Authorization") != f"Bearer {API_KEY}":
                return JSONResponse({"code": "unauthorized"}, 401)
            asked = str(request.url).removeprefix(self.url)
            self.asked.append(asked)
            await self.before(asked)
            status, body = answer(request)
            await self.after(asked)
            return JSONResponse(body, status)

        return guarded

    def _charges(self, request: Request) -> tuple[int, Document]:
        asked = request.query_params
        if "idempotencyKey" in asked:
            found = self._of(self.charges, asked["idempotencyKey"])
            return 200, {"charges": [dict(one) for one in found[-1:]]}
        ids = [charge["id"] for charge in self.charges]
        start = ids.index(asked["startingAfter"]) + 1 if "startingAfter" in asked else 0
        end = start + int(asked["limit"])
        page = [
            charge | {"refunds": [one for one in self.refunds if one["charge"] == charge["id"]]}
            for charge in self.charges[start:end]
        ]
        return 200, {"charges": page, "next": ids[end - 1] if end < len(ids) else None}

    def _charge(self, request: Request) -> tuple[int, Document]:
        found = [one for one in self.charges if one["id"] == request.path_params["id"]]
        return (200, dict(found[0])) if found else (404, {"code": "charge_not_found"})

    def _refunds(self, request: Request) -> tuple[int, Document]:
        found = self._of(self.refunds, request.query_params["idempotencyKey"])
        return 200, {"refunds": [dict(one) for one in found[-1:]]}

    def _of(self, lines: list[Document], key: str) -> list[Document]:
        if key in self.forgotten:
            return []
        return [one for one in lines if one["idempotencyKey"] == key]


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    """A gateway with an empty book, on loopback."""
    fake, port, stop = FakeGateway(), ReservedPort("127.0.0.1"), asyncio.Event()
    fake.url = f"http://127.0.0.1:{port.port}"
    server = HttpServer(fake.app(), "127.0.0.1", port.port)
    serving = asyncio.create_task(server.serve_until(stop))
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.wait((serving,), timeout=0.01)
    try:
        yield fake
    finally:
        stop.set()
        await serving
        port.release()


@dataclass
class OurBook:
    """`payment.gateway_call`, as payment writes it."""

    database: Database

    async def call(
        self, order_id: str, state: str, kind: str = "charge", *, amount: int = 1000,
        reference: str | None = None, age_s: float = 0.0, closed_by: str | None = None,
    ) -> None:  # fmt: skip
        """A row; where it is there already it is so from now on."""
        prefix = "payment" if kind == "charge" else "refund"
        async with self.database.connection("payment") as connection:
            await connection.execute(
                "INSERT INTO payment (order_id, state, user_id, amount, currency, method, points,"
                " captured, refunded, fingerprint_version, fingerprint) VALUES ($1, 'PENDING',"
                " 'ann', 1000, 'KRW', 'gateway', 0, 0, 0, 1, decode(repeat('ab', 16), 'hex'))"
                " ON CONFLICT DO NOTHING", order_id,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO gateway_call (key, order_id, kind, state, user_id, amount, currency,"
                " reference, quarantine, attempt, sends, command_id, traceparent, next_at,"
                " created_at, closed_by, closed_note, closed_at) VALUES ($1, $2, $3, $4, 'ann', $5,"
                " 'KRW', $6, $7, 1, 1, $2, '', now(), now() - make_interval(secs => $8), $9::text,"
                " 'why' || left($9, 0), CASE WHEN $9 IS NOT NULL THEN now() END)"
                " ON CONFLICT (key) DO UPDATE SET state ="
                " excluded.state, reference = excluded.reference, amount = excluded.amount",
                f"{prefix}:{order_id}", order_id, kind, state, amount, reference,
                "1300 KRW was captured" if state == "QUARANTINED" else None, age_s,
                closed_by,
            )  # fmt: skip


@pytest.fixture
def book(database: Database) -> OurBook:
    """Our book, empty."""
    return OurBook(database)
