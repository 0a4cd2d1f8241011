"""What other services ask of orders: how they stand, as the world may know it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from order_orchestrator.domain import public_status
from order_orchestrator.records import UnreadableSagaError
from order_orchestrator.store import queries, read_saga
from shared.admin import in_time, json_problem
from shared.contracts.ids import is_id
from shared.contracts.order_document import ORDERS_AT_MOST, StoredOrder, StoredOrders

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from starlette.requests import Request

    from order_orchestrator.domain import Saga
    from shared.database import Pool


class OrdersApi:
    """Routes for the admin port."""

    def __init__(self, pool: Pool) -> None:
        """Read through `pool`."""
        self._pool = pool

    def routes(self) -> list[Route]:
        """What the admin port serves for other services."""
        return [Route("/orders", self.orders)]

    async def orders(self, request: Request) -> Response:
        """The orders named by `id`, those that are there."""
        ids = request.query_params.getlist("id")
        if not 1 <= len(ids) <= ORDERS_AT_MOST or not all(map(is_id, ids)):
            detail = f"id: 1 to {ORDERS_AT_MOST} order ids"
            return json_problem(HTTPStatus.BAD_REQUEST, "Invalid request", detail)
        try:
            found = [order_of(read_saga(row)) for row in await in_time(self._read(ids))]
        except UnreadableSagaError as error:
            return json_problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Unreadable",
                error.detail,
                reason="unreadable_saga",
            )
        content = StoredOrders(orders=tuple(found)).model_dump_json(exclude_none=True)
        return Response(content, media_type="application/json")

    async def _read(self, ids: Sequence[str]) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.read_sagas.rows(connection, order_ids=ids)


def order_of(saga: Saga) -> StoredOrder:
    """What the world may know of a saga."""
    order, price, ending = saga.order, saga.price, saga.ending
    return StoredOrder(
        order_id=order.order_id,
        user_id=order.user_id or None,
        status=public_status(saga),
        version=saga.version,
        items=price and price.items,
        total=price and price.total,
        discount=price and price.discount,
        currency=price and order.currency,
        pay_by=saga.pay_by,
        reason=ending and ending.reason,
        details=ending and ending.details,
        note=ending and ending.note,
        reference=order.reference,
        fingerprint=order.fingerprint.hex(),
    )
