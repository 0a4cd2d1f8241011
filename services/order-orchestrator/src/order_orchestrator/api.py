"""The orchestrator's own port: how one saga stands, and what an operator may do with it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from order_orchestrator.documents import history_document, saga_document, time_text
from order_orchestrator.domain import SagaState
from order_orchestrator.events import Ignored, OperatorCancel, Refused, Retry, Settle
from order_orchestrator.records import UnreadableSagaError
from order_orchestrator.store import queries, read_saga
from shared import backoff
from shared.acting import Action, read_action
from shared.admin import in_time, json_problem
from shared.contracts.explaining import shorten
from shared.contracts.ids import is_id
from shared.database.faults import Conflict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg
    from starlette.requests import Request

    from order_orchestrator.chunk import Sagas
    from order_orchestrator.domain import Saga
    from order_orchestrator.events import Event, Result
    from shared.database import Connection, Pool, Write
    from shared.pipeline import Committed, Outgoing
    from shared.pipeline.work import Work

LISTED_AT_MOST = 1_000
TRIES = 5


class SettleAction(Action):
    """What the order's outcome is to be."""

    outcome: Literal["CONFIRMED", "REJECTED", "CANCELLED"]


class OperatorApi:
    """Routes for the admin port."""

    def __init__(self, pool: Pool, work: Work, sagas: Sagas) -> None:
        """Read through `pool`, act through `work`."""
        self._pool = pool
        self._work = work
        self._sagas = sagas

    def routes(self) -> list[Route]:
        """What the admin port serves beside health and metrics."""
        return [
            Route("/sagas", self.stuck),
            Route("/sagas/{order_id}", self.show),
            Route("/sagas/{order_id}/cancel", self.cancel, methods=["POST"]),
            Route("/sagas/{order_id}/retry", self.retry, methods=["POST"]),
            Route("/sagas/{order_id}/settle", self.settle, methods=["POST"]),
        ]

    async def stuck(self, request: Request) -> Response:
        """The stuck sagas, longest stuck first."""
        rows = await in_time(self._read_stuck())
        return JSONResponse(
            [
                {
                    "orderId": row["order_id"],
                    "state": row["state"],
                    "why": row["stuck_why"],
                    "since": time_text(row["stuck_since"]),
                    "acceptedAt": time_text(row["accepted_at"]),
                }
                for row in rows
            ]
        )

    async def show(self, request: Request) -> Response:
        """One saga with its history."""
        order_id = request.path_params["order_id"]
        if not is_id(order_id):
            return _no_id(order_id)
        row, history, now = await in_time(self._read(order_id))
        if row is None:
            return _unknown(order_id)
        saga = None
        try:
            saga = read_saga(row)
            document = saga_document(saga, self._sagas.limits)
        except UnreadableSagaError as error:
            document = {"orderId": order_id, "state": row["state"], "unreadable": error.detail}
            if row["stuck_since"] is not None:
                since = time_text(row["stuck_since"])
                document["stuck"] = {"since": since, "why": row["stuck_why"]}
        document["askedAt"] = time_text(now)
        document["history"] = history_document(saga, history)
        return JSONResponse(document)

    async def cancel(self, request: Request) -> Response:
        """Cancel the order, as its user could."""
        return await self._act(
            request, Action, lambda action: OperatorCancel(action.operator, action.note)
        )

    async def retry(self, request: Request) -> Response:
        """Send again what a stuck saga is owed."""
        return await self._act(request, Action, lambda action: Retry(action.operator, action.note))

    async def settle(self, request: Request) -> Response:
        """End a stuck saga with an outcome, by an operator's word."""
        return await self._act(
            request,
            SettleAction,
            lambda action: Settle(action.operator, SagaState(action.outcome), action.note),
        )

    async def _act(self, request: Request, model: type[Any], event_of: Any) -> Response:
        order_id = request.path_params["order_id"]
        if not is_id(order_id):
            return _no_id(order_id)
        action = await read_action(request, model)
        if isinstance(action, Response):
            return action
        try:
            result, saga = await in_time(self._transition(order_id, event_of(action)))
        except UnreadableSagaError as error:
            return json_problem(409, "Unreadable", error.detail, reason="unreadable_saga")
        if result is None or saga is None:
            return _unknown(order_id)
        if isinstance(result, Refused):
            return json_problem(409, "Refused", result.detail, reason=result.reason)
        if isinstance(result, Ignored):
            return json_problem(409, "Nothing to do", result.reason, reason=result.reason)
        return JSONResponse(saga_document(saga, self._sagas.limits))

    async def _read_stuck(self) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.list_stuck.rows(connection, sagas=LISTED_AT_MOST)

    async def _read(
        self, order_id: str
    ) -> tuple[asyncpg.Record | None, Sequence[asyncpg.Record], datetime]:
        async with (
            self._pool.acquire() as connection,
            # one snapshot, so that row and history fit
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            row = await queries.read_saga.row(connection, order_id=order_id)
            history = await queries.read_history.rows(connection, order_id=order_id)
            return row, history, await queries.database_time.value(connection)

    async def _transition(self, order_id: str, event: Event) -> tuple[Result | None, Saga | None]:
        async def work(
            connection: Connection,
        ) -> tuple[tuple[Result | None, Saga | None], Sequence[Outgoing | Write | Committed]]:
            store = self._sagas.store(connection)
            chunk = await self._sagas.load(store, [order_id])
            saga = chunk.get(order_id)
            if saga is None:
                return (None, None), ()
            result = chunk.apply(saga, event)
            return (result, chunk.get(order_id)), chunk.save(store)

        for attempt in range(1, TRIES):
            try:
                return await self._work.run(work)
            except Conflict:
                await asyncio.sleep(backoff.delay_s(attempt))
        return await self._work.run(work)


def _no_id(order_id: str) -> Response:
    return json_problem(
        HTTPStatus.NOT_FOUND,
        "Unknown order",
        f"{shorten(order_id)} is no order id: 1 to 64 of A-Z a-z 0-9 . _ -",
    )


def _unknown(order_id: str) -> Response:
    return json_problem(HTTPStatus.NOT_FOUND, "Unknown order", f"there is no order {order_id}")
