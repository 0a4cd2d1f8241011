"""Routes of carts."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response

from shared.contracts.ids import is_id
from shared.contracts.order_parts import Line
from storefront.describing import BY_USER, HTTP_JSON
from storefront.documents import CartDocument, CartRequest, json_bytes
from storefront.endpoint import Says, route
from storefront.problems import ProblemError, invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import Route

    from storefront.bodies import Bodies
    from storefront.identity import Identity
    from storefront.store import Store


class CartApi:
    """What users do with their carts."""

    def __init__(self, store: Store, bodies: Bodies, identity: Identity) -> None:
        self._store = store
        self._bodies = bodies
        self._identity = identity

    def routes(self) -> list[Route]:
        """What is served."""
        of_user = (BY_USER,)
        return [
            route("POST", "/api/cart", self.put,
                  Says("cart", CartDocument, (404, 409), CartRequest)),
            route("GET", "/api/cart", self.show,
                  Says("cart", CartDocument, (404,), parameters=of_user)),
            route("DELETE", "/api/cart", self.empty,
                  Says("cart", None, (404,), parameters=of_user)),
        ]  # fmt: skip

    async def put(self, request: Request) -> Response:
        """Have so many units of a product in the cart: sent again, it changes nothing."""
        caller = self._identity.caller(request)
        wish = await self._bodies.read(request, CartRequest)
        user_id = caller.owner(wish.user_id, f"cart of {wish.user_id}")
        line = Line(product_id=wish.product_id, quantity=wish.quantity)
        lines = await self._store.put_line(user_id, line)
        if lines is None:
            raise ProblemError(
                HTTPStatus.CONFLICT, "the cart is full; order first, or take it apart",
                reason="cart_full",
            )  # fmt: skip
        return _cart(user_id, lines)

    async def show(self, request: Request) -> Response:
        """The cart; an empty one where there is none."""
        user_id = self._user(request)
        return _cart(user_id, await self._store.cart(user_id))

    async def empty(self, request: Request) -> Response:
        """Empty the cart."""
        await self._store.empty_cart(self._user(request))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _user(self, request: Request) -> str:
        caller = self._identity.caller(request)
        named = request.query_params.get("userId")
        if named is not None and not is_id(named):
            raise invalid("userId: 1 to 64 of A-Z a-z 0-9 . _ -")
        return caller.owner(named, f"cart of {named}")


def _cart(user_id: str, lines: Sequence[Line]) -> Response:
    document = CartDocument(user_id=user_id, items=tuple(lines))
    return Response(json_bytes(document), media_type=HTTP_JSON)
