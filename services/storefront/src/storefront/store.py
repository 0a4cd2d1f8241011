"""What the storefront keeps in Redis: carts, and which orders of a user are unpaid.

Losing it loses carts, and nothing else: a user whose unpaid orders were forgotten may place a few
more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from shared.contracts.order_parts import Line
from shared.redis import Batched, RedisAwayError
from shared.telemetry.logs import Seldom
from storefront.metrics import UNBOUNDED
from storefront.problems import unavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence

_seldom = Seldom(__name__)

CART: Final = "storefront:cart:"
UNPAID: Final = "storefront:unpaid:"


class Store:
    """Carts and unpaid orders."""

    def __init__(
        self,
        redis: Batched,
        *,
        cart_keep_s: int,
        cart_lines_at_most: int,
        unpaid_keep_s: int,
        unpaid_at_most: int,
    ) -> None:
        self._redis = redis
        self._cart_keep_s = cart_keep_s
        self._cart_lines_at_most = cart_lines_at_most
        self._unpaid_keep_ms = unpaid_keep_s * 1000
        self._unpaid_at_most = unpaid_at_most

    async def put_line(self, user_id: str, line: Line) -> Sequence[Line] | None:
        """Set the quantity of a product; the whole cart, None where it is full. Raises
        ProblemError."""
        arguments = (line.product_id, line.quantity, self._cart_lines_at_most, self._cart_keep_s)
        try:
            flat = await self._redis.run("put_line", [CART + user_id], arguments)
        except RedisAwayError as error:
            raise _carts_away() from error
        return _lines(dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None

    async def cart(self, user_id: str) -> Sequence[Line]:
        """The cart, whose time begins anew. Raises ProblemError."""
        try:
            found = await self._redis.ask("HGETALL", CART + user_id)
            await self._redis.ask("EXPIRE", CART + user_id, self._cart_keep_s)
        except RedisAwayError as error:
            raise _carts_away() from error
        return _lines(found)

    async def empty_cart(self, user_id: str) -> None:
        """Forget the cart. Raises ProblemError."""
        try:
            await self._redis.ask("DEL", CART + user_id)
        except RedisAwayError as error:
            raise _carts_away() from error

    def take_out(self, user_id: str, lines: Iterable[Line]) -> None:
        """Take what was ordered out of the cart, soon, as far as Redis is there."""
        self._tell("HDEL", CART + user_id, *(line.product_id for line in lines))

    async def hold_place(self, user_id: str, order_id: str) -> bool:
        """Count the order among the unpaid ones; False where the user has too many. Without Redis
        nothing is bounded: an order is worth more than the bound."""
        now_ms = int(time.time() * 1000)
        arguments = (order_id, now_ms, self._unpaid_keep_ms, self._unpaid_at_most)
        try:
            return bool(await self._redis.run("hold_place", [UNPAID + user_id], arguments))
        except RedisAwayError as error:
            UNBOUNDED.inc()
            _seldom.warning("unpaid_orders_unbounded", detail=str(error)[:200])
            return True

    async def unpaid(self, user_id: str, at_most: int) -> Mapping[str, float]:
        """The orders that count as unpaid, oldest first, and for how many seconds they do."""
        command = ("ZRANGE", UNPAID + user_id, 0, at_most - 1, "WITHSCORES")
        try:
            found: list[tuple[str, float]] = await self._redis.ask(*command)
        except RedisAwayError:
            return {}
        now_ms = time.time() * 1000
        return {
            order_id: (now_ms - (forgotten_ms - self._unpaid_keep_ms)) / 1000
            for order_id, forgotten_ms in found
        }

    def give_place_back(self, user_id: str, *order_ids: str) -> None:
        """These orders are unpaid no more, soon, as far as Redis is there."""
        self._tell("ZREM", UNPAID + user_id, *order_ids)

    def _tell(self, *command: Any) -> None:
        """Nobody waits for it; what comes after it in this process goes after it."""
        self._redis.tell(*command).add_done_callback(_told)


def _told(said: asyncio.Future[Any]) -> None:
    if not said.cancelled() and (error := said.exception()) is not None:
        _seldom.warning("redis_not_told", detail=str(error)[:200])


def _lines(fields: dict[str, str]) -> Sequence[Line]:
    return tuple(
        Line(product_id=product_id, quantity=int(quantity))
        for product_id, quantity in sorted(fields.items())
    )


def _carts_away() -> Exception:
    return unavailable("carts can't be reached now; try again", reason="redis_away")
