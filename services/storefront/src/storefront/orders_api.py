"""Routes of orders: placed, shown, paid, cancelled, and watched."""

from __future__ import annotations

import secrets
import time
from contextlib import nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.responses import Response

from shared.contracts.base import fingerprint
from shared.contracts.ids import is_id
from shared.contracts.order_document import OrderDocument
from shared.contracts.orders import CancelOrder, PayOrder, PlaceOrder
from shared.contracts.refusals import CommandRefusal
from storefront.asking import Asked
from storefront.describing import HTTP_JSON
from storefront.documents import CancelRequest, PayRequest, PlaceRequest, json_bytes
from storefront.domain import OUTCOMES, Answer, key_id
from storefront.endpoint import Says, route
from storefront.patience import LOOK_S
from storefront.problems import NotSentError, ProblemError, invalid, unknown
from storefront.requests import idempotency_key, traceparent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.routing import Route

    from shared.contracts.order_parts import OrderStatus
    from storefront.admission import Admission
    from storefront.asking import Desk
    from storefront.bodies import Bodies
    from storefront.identity import Identity
    from storefront.store import Store

_Change = TypeVar("_Change", PayOrder, CancelOrder)
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: ids sort by time."""


class OrdersApi:
    """What users do with orders."""

    def __init__(
        self, desk: Desk, store: Store, bodies: Bodies, identity: Identity, admission: Admission
    ) -> None:
        self._desk = desk
        self._store = store
        self._bodies = bodies
        self._identity = identity
        self._admission = admission

    def routes(self) -> list[Route]:
        """What is served."""
        changed = (202, 404, 409, 422)
        placed = (202, 403, 409, 422, 429)
        order = OrderDocument
        return [
            route("POST", "/api/orders", self.place,
                  Says("orders", order, placed, PlaceRequest, keyed=True)),
            route("GET", "/api/orders/{order_id}", self.show, Says("orders", order, (404,))),
            route("POST", "/api/orders/{order_id}/payment", self.pay,
                  Says("orders", order, changed, PayRequest, keyed=True)),
            route("POST", "/api/orders/{order_id}/cancel", self.cancel,
                  Says("orders", order, changed, CancelRequest)),
        ]  # fmt: skip

    async def place(self, request: Request) -> Response:
        """Place an order. Answered once stock and coupon are held, or it is paid."""
        caller = self._identity.caller(request)
        wish = await self._bodies.read(request, PlaceRequest)
        user_id = caller.acting_as(wish.user_id)
        key = idempotency_key(request)
        order_id = key_id(user_id, key) if key else _new_id()
        order = _order(order_id, user_id, wish)
        asked = self._asked(request, keyed=key is not None)
        with self._admission.admitted(), self._desk.alone(order_id, order_id):
            answer = await self._desk.before(order, asked) if key else None
            if answer is None:
                answer = await self._placed(order, asked)
        self._settled(user_id, order_id, answer)
        return _response(answer, order_id)

    async def show(self, request: Request) -> Response:
        """An order as it is now."""
        caller = self._identity.caller(request)
        order = await self._desk.show(_order_id(request), caller.user_id)
        return Response(json_bytes(order), media_type=HTTP_JSON)

    async def pay(self, request: Request) -> Response:
        """Pay an order that was placed to be paid later. Answered once it is paid, or never will
        be."""
        caller = self._identity.caller(request)
        wish = await self._bodies.read(request, PayRequest)
        order_id = _order_id(request)
        user_id = caller.owner(wish.user_id, f"order {order_id}")
        key = idempotency_key(request)
        command = _identified(
            PayOrder(order_id=order_id, user_id=user_id, payment=wish.payment), key
        )
        asked = self._asked(request, keyed=key is not None)
        alone = self._desk.alone(command.command_id, order_id) if key else nullcontext()
        with self._admission.admitted(), alone:
            answer = await self._desk.pay(command, asked)
        self._settled(user_id, order_id, answer)
        return _response(answer, order_id)

    async def cancel(self, request: Request) -> Response:
        """Cancel an order that isn't paid. What was done for it is undone first."""
        caller = self._identity.caller(request)
        wish = await self._bodies.read(request, CancelRequest)
        order_id = _order_id(request)
        user_id = caller.owner(wish.user_id, f"order {order_id}")
        command = _identified(
            CancelOrder(order_id=order_id, user_id=user_id, reason=wish.reason), None
        )
        with self._admission.admitted():
            answer = await self._desk.cancel(command, self._asked(request))
        self._settled(user_id, order_id, answer)
        return _response(answer, order_id)

    def _asked(self, request: Request, *, keyed: bool = False) -> Asked:
        """Its time begins now: the body has had its own."""
        return Asked(self._desk.patience.begin(), traceparent(request), keyed)

    async def _placed(self, order: PlaceOrder, asked: Asked) -> Answer:
        await self._hold_place(order.user_id, order.order_id, asked)
        try:
            answer = await self._desk.place(order, asked)
        except NotSentError:
            self._store.give_place_back(order.user_id, order.order_id)
            raise
        if not answer.is_problem:
            self._store.take_out(order.user_id, order.lines())
        elif answer.order is None and answer.reason != CommandRefusal.ORDER_ID_REUSED:
            # refused as a command, so that nothing is stored
            self._store.give_place_back(order.user_id, order.order_id)
        return answer

    async def _hold_place(self, user_id: str, order_id: str, asked: Asked) -> None:
        """Raises ProblemError: 429 where the user has too many unpaid orders, 503 where nobody says
        whether they still are."""
        counted = await self._try_to_hold(user_id, order_id, asked)
        if counted and (over := await self._desk.paid_or_gone(counted, asked)):
            self._store.give_place_back(user_id, *over)
            counted = await self._try_to_hold(user_id, order_id, asked)
        if counted:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{user_id} has {len(counted)} orders that are not paid; pay or cancel one first",
                reason="too_many_unpaid",
                headers={"retry-after": "60"},
            )

    async def _try_to_hold(self, user_id: str, order_id: str, asked: Asked) -> Mapping[str, float]:
        try:
            async with self._desk.patience.lasting(asked.until, at_least_s=LOOK_S):
                return await self._store.hold_place(user_id, order_id)
        except TimeoutError:
            return self._store.unbounded("no answer in time")

    def _settled(self, user_id: str, order_id: str, answer: Answer) -> None:
        if answer.order is not None and answer.order.status in OUTCOMES:
            self._store.give_place_back(user_id, order_id)


def _order_id(request: Request) -> str:
    order_id: str = request.path_params["order_id"]
    if not is_id(order_id):
        raise unknown("such order")
    return order_id


def _identified(command: _Change, key: str | None) -> _Change:
    """The command under an id of its own: the key's, or that of its content, so that what another
    request asks for never has it."""
    # a key is never empty, so that no key makes the id of a content
    own = (key,) if key else ("", command.type, fingerprint(command).hex())
    command_id = key_id(command.user_id, command.order_id, *own)
    return command.model_copy(update={"command_id": command_id})


def _order(order_id: str, user_id: str, wish: PlaceRequest) -> PlaceOrder:
    try:
        return PlaceOrder(
            order_id=order_id,
            user_id=user_id,
            items=wish.items,
            coupon_id=wish.coupon_id,
            payment=wish.payment,
            pay=wish.pay,
            expected_total=wish.expected_total,
            reference=wish.reference,
        )
    except ValueError as error:  # what only all lines together can be
        raise invalid(_first_line(error)) from None


def _first_line(error: ValueError) -> str:
    errors: Any = getattr(error, "errors", None)
    return str(errors(include_url=False)[0]["msg"]) if errors else str(error)


def _response(answer: Answer, order_id: str) -> Response:
    if answer.is_problem:
        raise ProblemError(
            answer.status,
            answer.detail or answer.status.phrase,
            reason=answer.reason,
            order_id=order_id,
            order=answer.order,
        )
    if answer.status is HTTPStatus.ACCEPTED:
        status: OrderStatus | str = answer.order.status if answer.order else "PENDING"
        content = answer.order and json_bytes(answer.order)
        return Response(
            content or f'{{"orderId":"{order_id}","status":"{status}"}}',
            HTTPStatus.ACCEPTED,
            {"location": f"/api/orders/{order_id}", "retry-after": "1"},
            media_type=HTTP_JSON,
        )
    assert answer.order is not None
    return Response(json_bytes(answer.order), media_type=HTTP_JSON)


def _new_id() -> str:
    """`o-` and 26 characters: 48 bits of time in ms and 80 of chance, so that rows of one time lie
    together."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return "o-" + "".join([_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5)])
