"""What the storefront keeps in Redis: carts, and which orders of a user are unpaid.

Losing it loses carts, and nothing else: a user whose unpaid orders were forgotten may place a few
more.
"""

from __future__ import annotations

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
        """The cart, whose time begins anew as far as Redis takes it. Raises ProblemError."""
        reading = self._redis.tell("HGETALL", CART + user_id)
        self._tell("EXPIRE", CART + user_id, self._cart_keep_s)  # goes with it
        try:
            found = await reading
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

    async def hold_place(self, user_id: str, order_id: str) -> Mapping[str, float]:
        """Count the order among the unpaid ones. Where the user has too many, it isn't, and these
        are told: order id -> seconds since it was counted. Without Redis nothing is bounded: an
        order is worth more than the bound."""
        arguments = (order_id, self._unpaid_keep_ms, self._unpaid_at_most)
        try:
            flat = await self._redis.run("hold_place", [UNPAID + user_id], arguments)
        except RedisAwayError as error:
            return self.unbounded(str(error))
        ages = zip(flat[::2], flat[1::2], strict=True)
        return {unpaid_id: int(age_ms) / 1000 for unpaid_id, age_ms in ages}

    def unbounded(self, detail: str) -> Mapping[str, float]:
        """As where nothing is counted, and counts that."""
        UNBOUNDED.inc()
        _seldom.warning("unpaid_orders_unbounded", detail=detail[:200])
        return {}

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
