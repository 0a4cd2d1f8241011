"""Payment's own port: how payments and their calls to the gateway stand, what users have, and what
an operator does: `ask` has the gateway asked anew, `close` says that no money is there any more.

All else is read. What is asked anew is asked under the same key as ever: nothing is charged twice.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from payment.calls import key_of
from payment.census import queries
from payment.documents import call_document, entry_document, payment_documents
from shared.acting import Action, read_action
from shared.admin import faults, in_time, json_problem
from shared.contracts.explaining import shorten
from shared.contracts.ids import ID_PATTERN, is_id
from shared.contracts.payment import CallKind, CallState, PaymentState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    import asyncpg
    from starlette.requests import Request

    from shared.database import Pool

    Close = Callable[[str, str, str], Awaitable[Sequence[str]]]

PAYMENTS_AT_MOST: Final = 1_000
"""Of one page."""


class Page(BaseModel):
    """Which payments are asked for."""

    model_config = ConfigDict(extra="forbid")

    state: PaymentState | None = None
    open: bool = False
    """Those alone of which nobody knows yet what comes of them, or a person has to look."""
    oldest: bool = False
    """Of the open ones, those whose call is the oldest first. There is one page of these."""
    after: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    """The order behind which the page begins: `next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=PAYMENTS_AT_MOST)] = 100

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.oldest and (self.after is not None or not self.open):
            raise ValueError("oldest goes with open, and without after")
        return self


class PaymentsApi:
    """Routes for the admin port."""

    def __init__(self, pool: Pool, breaker: Callable[[], str], close: Close) -> None:
        """Read and write through `pool`; `breaker` says how the circuit to the gateway is. `close`
        takes an order, an operator and a note, and tells the keys of the calls that are closed."""
        self._close = close
        self._pool = pool
        self._breaker = breaker

    def routes(self) -> list[Route]:
        """What the admin port serves beside health and metrics."""
        return [
            Route("/payments", self.payments),
            Route("/payments/{order_id}", self.payment),
            Route("/payments/{order_id}/ask", self.ask, methods=["POST"]),
            Route("/payments/{order_id}/close", self.close, methods=["POST"]),
            Route("/gateway", self.gateway),
            Route("/wallets/{user_id}", self.wallet),
        ]

    async def payments(self, request: Request) -> Response:
        """A page of payments with their calls, and behind which order the next one begins."""
        try:
            page = Page.model_validate(dict(request.query_params))
        except ValidationError as error:
            return json_problem(HTTPStatus.BAD_REQUEST, "Invalid page", faults(error))
        found = await in_time(self._read_page(page))
        is_full = len(found) == page.limit and not page.oldest
        return JSONResponse({"payments": found, "next": found[-1]["orderId"] if is_full else None})

    async def payment(self, request: Request) -> Response:
        """One payment, its calls, and what it moved in the ledger."""
        order_id = request.path_params["order_id"]
        found = await in_time(self._read_payment(order_id)) if is_id(order_id) else None
        return _unknown(order_id) if found is None else JSONResponse(found)

    async def ask(self, request: Request) -> Response:
        """Have the gateway asked anew, now: 202 with the calls that are asked about, 409 where
        there is nothing to ask."""
        order_id = request.path_params["order_id"]
        if not is_id(order_id):
            return _unknown(order_id)
        calls = await in_time(self._ask(order_id))
        if calls:
            asked = {"orderId": order_id, "calls": calls}
            return JSONResponse(asked, status_code=HTTPStatus.ACCEPTED)
        found = await in_time(self._read_payment(order_id))
        if found is None:
            return _unknown(order_id)
        detail = "; ".join(map(_why_not, found["calls"])) or "the gateway was never asked for it"
        return json_problem(HTTPStatus.CONFLICT, "Nothing to ask", f"{order_id}: {detail}")

    async def close(self, request: Request) -> Response:
        """Take an operator's word that no money of the order is at the gateway any more: the
        payment as it is then, 409 where none of its calls is quarantined."""
        order_id = request.path_params["order_id"]
        if not is_id(order_id):
            return _unknown(order_id)
        action = await read_action(request, Action)
        if isinstance(action, Response):
            return action
        keys = await in_time(self._closed(order_id, action))
        found = await in_time(self._read_payment(order_id))
        if found is None:
            return _unknown(order_id)
        if keys:
            return JSONResponse(found)
        detail = "; ".join(map(_why_open, found["calls"])) or "the gateway was never asked for it"
        return json_problem(HTTPStatus.CONFLICT, "Nothing to close", f"{order_id}: {detail}")

    async def gateway(self, request: Request) -> Response:
        """How the way to the gateway is, and how many calls are without an outcome."""
        rows = await in_time(self._count())
        open_for = [row["oldest_s"] for row in rows if row["state"] != CallState.WATCHED]
        return JSONResponse(
            {
                "breaker": self._breaker(),
                "calls": {row["state"]: row["calls"] for row in rows},
                "oldestOpenAgeSeconds": round(max(open_for), 3) if open_for else None,
            }
        )

    async def wallet(self, request: Request) -> Response:
        """What a user has, in minor units."""
        user_id = request.path_params["user_id"]
        row = await in_time(self._read_wallet(user_id)) if is_id(user_id) else None
        if row is None:
            detail = f"{shorten(user_id)} has no wallet"
            return json_problem(HTTPStatus.NOT_FOUND, "Unknown wallet", detail)
        return JSONResponse(
            {
                "userId": row["user_id"],
                "balance": row["balance"],
                "points": row["points"],
                "currency": row["currency"],
            }
        )

    async def _read_page(self, page: Page) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {
            "after": page.after or "", "state": page.state, "payments": page.limit,
        }  # fmt: skip
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            if page.open:
                rows = await queries.page_of_open.rows(
                    connection, oldest_first=page.oldest, **asked
                )
            else:
                rows = await queries.page_of_payments.rows(connection, order_id=None, **asked)
            keys = _keys([row["order_id"] for row in rows])
            calls = await queries.calls_of.rows(connection, keys=keys)
        return payment_documents(rows, calls)

    async def _read_payment(self, order_id: str) -> dict[str, Any] | None:
        """One moment for all of it: what moved is what its state says."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            row = await queries.page_of_payments.row(
                connection, after="", order_id=order_id, state=None, payments=1
            )
            if row is None:
                return None
            calls = await queries.calls_of.rows(connection, keys=_keys([order_id]))
            entries = await queries.entries_of.rows(connection, order_id=order_id)
        (found,) = payment_documents([row], calls)
        return found | {"entries": [entry_document(entry) for entry in entries]}

    async def _ask(self, order_id: str) -> list[dict[str, Any]]:
        async with self._pool.acquire() as connection:
            rows = await queries.ask_anew.rows(connection, order_id=order_id)
        return [call_document(row) for row in rows]

    async def _closed(self, order_id: str, action: Action) -> Sequence[str]:
        return await self._close(order_id, action.operator, action.note)

    async def _count(self) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.count_calls.rows(connection)

    async def _read_wallet(self, user_id: str) -> asyncpg.Record | None:
        async with self._pool.acquire() as connection:
            return await queries.read_wallet.row(connection, user_id=user_id)


def _keys(order_ids: Iterable[str]) -> list[str]:
    return [key_of(kind, order_id) for order_id in order_ids for kind in CallKind]


def _why_not(call: dict[str, Any]) -> str:
    """Why the gateway isn't asked about a call; it may have changed a moment ago."""
    name, state = call["kind"], call["state"]
    if state == "WAITING":
        return f"the {name} waits for the outcome of the charge"
    if call["owner"] is not None:
        return f"{call['owner']} asks about the {name} right now, until {call['nextAt']} at most"
    if state == "QUARANTINED":
        return f"the {name} is QUARANTINED ({call['quarantine']}), and its payment owes none"
    return f"the {name} is {state}"


def _why_open(call: dict[str, Any]) -> str:
    """Why a call isn't closed by an operator's word; it may have changed a moment ago."""
    if call["state"] == "QUARANTINED":
        return f"the {call['kind']} is QUARANTINED, and waits for the outcome of the charge"
    return f"the {call['kind']} is {call['state']}"


def _unknown(order_id: str) -> Response:
    detail = (
        f"there is no payment of {order_id}"
        if is_id(order_id)
        else f"{shorten(order_id)} is no order id: 1 to 64 of A-Z a-z 0-9 . _ -"
    )
    return json_problem(HTTPStatus.NOT_FOUND, "Unknown payment", detail)
