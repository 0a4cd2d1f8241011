"""The orchestrator's own port: how one saga stands, and what an operator may do with it."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from order_orchestrator.domain import SagaState, public_status
from order_orchestrator.events import Ignored, OperatorCancel, Refused, Retry, Settle
from order_orchestrator.records import UnreadableSagaError
from order_orchestrator.saga import STEPS, owed
from order_orchestrator.store import queries, read_saga
from shared import backoff
from shared.admin import json_problem
from shared.contracts.base import format_time, is_id
from shared.contracts.explaining import shorten
from shared.database.faults import Conflict

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
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
MAX_BODY_BYTES = 16_384
ANSWER_WITHIN_S = 8.0
"""Below the 10 s that `orderctl` waits: a database that hangs is told as such."""

_T = TypeVar("_T")


class Action(BaseModel):
    """Who acts, and why: both stand in the saga's history."""

    model_config = ConfigDict(extra="forbid")

    operator: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
    note: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class SettleAction(Action):
    """What the order's outcome is to be."""

    outcome: Literal["CONFIRMED", "REJECTED", "CANCELLED"]


def saga_document(saga: Saga) -> dict[str, Any]:
    """A saga as operators read it."""
    open_ends = owed(saga)
    details = saga.ending.details if saga.ending else ()
    return {
        "orderId": saga.order.order_id,
        "state": saga.state,
        "status": public_status(saga),
        "version": saga.version,
        "steps": {step.name: status for step, status in zip(STEPS, saga.steps, strict=True)},
        "stuck": saga.stuck and {"since": _time(saga.stuck.since), "why": saga.stuck.why},
        "owed": {
            "units": [line.model_dump(by_alias=True) for line in open_ends.units],
            "money": open_ends.money,
            "currency": open_ends.currency,
            "couponId": open_ends.coupon_id,
            "steps": list(open_ends.steps),
        },
        "ordered": _ordered(saga),
        "reason": saga.ending and saga.ending.reason,
        "note": saga.ending and saga.ending.note,
        "details": [detail.model_dump(mode="json") for detail in details],
        "acceptedAt": _time(saga.order.accepted_at),
        "deadlineAt": _time(saga.deadline_at),
        "payBy": _time(saga.pay_by),
        "timerAt": _time(saga.timer_at),
        "traceparent": saga.order.traceparent,
    }


def _ordered(saga: Saga) -> dict[str, Any]:
    """What was ordered; prices from the reservation on, the payment as `PayOrder` changed it."""
    order, price = saga.order, saga.price
    return {
        "userId": order.user_id or None,
        "items": [line.model_dump() for line in (price.items if price else order.lines)],
        "couponId": order.coupon_id,
        "payment": saga.payment.model_dump(mode="json"),
        "pay": order.pay,
        "total": price and price.total,
        "discount": price and price.discount,
        "currency": order.currency,
        "expectedTotal": order.expected_total,
        "reference": order.reference,
    }


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
        rows = await _in_time(self._read_stuck())
        return JSONResponse(
            [
                {
                    "orderId": row["order_id"],
                    "state": row["state"],
                    "why": row["stuck_why"],
                    "since": _time(row["stuck_since"]),
                    "acceptedAt": _time(row["accepted_at"]),
                }
                for row in rows
            ]
        )

    async def show(self, request: Request) -> Response:
        """One saga with its history."""
        order_id = request.path_params["order_id"]
        if not is_id(order_id):
            return _no_id(order_id)
        row, history = await _in_time(self._read(order_id))
        if row is None:
            return _unknown(order_id)
        try:
            document = saga_document(read_saga(row))
        except UnreadableSagaError as error:
            document = {"orderId": order_id, "state": row["state"], "unreadable": error.detail}
        document["history"] = [{**dict(entry), "at": _time(entry["at"])} for entry in history]
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
        body = await _body(request)
        if body is None:
            return json_problem(413, "Body too large", f"at most {MAX_BODY_BYTES} bytes")
        try:
            action = model.model_validate(json.loads(body or b"{}"))
        except (ValueError, ValidationError, RecursionError) as error:
            detail = (
                "; ".join(
                    f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
                    for item in error.errors(include_url=False)
                )
                if isinstance(error, ValidationError)
                else "the body is no JSON object"
            )
            return json_problem(400, "Invalid action", detail)
        try:
            result, saga = await _in_time(self._transition(order_id, event_of(action)))
        except UnreadableSagaError as error:
            return json_problem(409, "Unreadable", error.detail, reason="unreadable_saga")
        if result is None or saga is None:
            return _unknown(order_id)
        if isinstance(result, Refused):
            return json_problem(409, "Refused", result.detail, reason=result.reason)
        if isinstance(result, Ignored):
            return json_problem(409, "Nothing to do", result.reason, reason=result.reason)
        return JSONResponse(saga_document(saga))

    async def _read_stuck(self) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire(timeout=5.0) as connection:
            return await queries.list_stuck.rows(connection, sagas=LISTED_AT_MOST)

    async def _read(self, order_id: str) -> tuple[asyncpg.Record | None, Sequence[asyncpg.Record]]:
        async with self._pool.acquire(timeout=5.0) as connection:
            row = await queries.read_saga.row(connection, order_id=order_id)
            return row, await queries.read_history.rows(connection, order_id=order_id)

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


async def _body(request: Request) -> bytes | None:
    """The body, or None where it is too large: none of that is kept."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


async def _in_time(work: Coroutine[Any, Any, _T]) -> _T:
    """Its result. Raises TimeoutError where the time is up, without waiting for it to give up: that
    may take a database which hangs as long again."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=ANSWER_WITHIN_S)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)
    if not task.done():
        raise TimeoutError
    return task.result()


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio doesn't log it


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _no_id(order_id: str) -> Response:
    return json_problem(
        HTTPStatus.NOT_FOUND,
        "Unknown order",
        f"{shorten(order_id)} is no order id: 1 to 64 of A-Z a-z 0-9 . _ -",
    )


def _unknown(order_id: str) -> Response:
    return json_problem(HTTPStatus.NOT_FOUND, "Unknown order", f"there is no order {order_id}")
