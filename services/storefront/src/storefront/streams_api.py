"""Routes of streams: levels of stock, and the progress of an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shared.contracts.ids import is_id
from storefront.describing import ID_SCHEMA, in_query
from storefront.endpoint import Says, Stream, route
from storefront.problems import invalid
from storefront.watching import NAMED_AT_MOST

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from storefront.identity import Identity
    from storefront.streams import Streams
    from storefront.watching import LevelsTold, OrderTold

LAST_EVENT: Final = "last-event-id"
VERSION_DIGITS: Final = 18
_PRODUCTS: Final[dict[str, Any]] = in_query(
    "productId",
    {"type": "array", "items": ID_SCHEMA, "maxItems": NAMED_AT_MOST},
    "The product, once for each; all where it is left out",
)
_SINCE: Final[dict[str, Any]] = {
    "name": "Last-Event-ID", "in": "header", "required": False,
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
    "description": "The version that is known: only what is newer is told",
}  # fmt: skip


class StreamsApi:
    """What users may watch."""

    def __init__(
        self, streams: Streams, levels: LevelsTold, orders: OrderTold, identity: Identity
    ) -> None:
        self._streams = streams
        self._levels = levels
        self._orders = orders
        self._identity = identity

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            route("GET", "/api/stock/stream", self.levels,
                  Says("streams", Stream, parameters=(_PRODUCTS,))),
            route("GET", "/api/orders/{order_id}/stream", self.order,
                  Says("streams", Stream, (204, 404), parameters=(_SINCE,))),
        ]  # fmt: skip

    async def levels(self, request: Request) -> Response:
        """Server-sent events `level`: a `StockLevel` for each product as it is now, and whenever
        it moves; who reads slowly hears the newest only. `id` is product and version. `bye`: come
        again."""
        product_ids = tuple(sorted(set(request.query_params.getlist("productId"))))
        if len(product_ids) > NAMED_AT_MOST:
            raise invalid(f"productId: at most {NAMED_AT_MOST} products; leave it out for all")
        if not all(map(is_id, product_ids)):
            raise invalid("productId: 1 to 64 of A-Z a-z 0-9 . _ -")
        return await self._streams.answer("levels", self._levels.events(product_ids))

    async def order(self, request: Request) -> Response:
        """Server-sent events `order`: the order as it is now and whenever it changes, up to its
        outcome. `id` is its version. 204: its outcome is known already. `bye`: come again."""
        caller = self._identity.caller(request)
        order_id: str = request.path_params["order_id"]
        known = request.headers.get(LAST_EVENT, "")
        version = int(known) if known.isascii() and known.isdigit() and (
            len(known) <= VERSION_DIGITS
        ) else 0  # fmt: skip
        events = self._orders.events(order_id, caller.user_id, version)
        return await self._streams.answer("order", events)
