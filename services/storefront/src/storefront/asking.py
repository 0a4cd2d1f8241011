"""From a user's wish to its answer: a command is published, and the order's events answer it.

    listen for the order  ->  publish, and the broker acknowledges  ->  the event that settles it

What was acknowledged happens, whatever becomes of this process: who asks again, under the same
`Idempotency-Key` or order id, hears how it went. What is not settled in time is answered 202.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.base import message_id
from shared.contracts.ids import is_id
from shared.contracts.order_document import OrderDocument
from shared.contracts.order_parts import OrderStatus
from shared.contracts.orders import PlaceOrder
from shared.contracts.refusals import CommandRefusal
from shared.kafka.cloudevents import record_of
from shared.kafka.outbound import NeverPublishedError, NotPublishedError
from storefront.domain import OUTCOMES, Answer, Question, answer_of, heard
from storefront.latest import Latest
from storefront.metrics import LATE
from storefront.patience import LOOK_S
from storefront.problems import ProblemError, not_sent, unavailable, unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from shared.contracts.order_document import StoredOrder
    from shared.contracts.orders import CancelOrder, PayOrder
    from shared.kafka.outbound import Outbound
    from storefront.listening import Ear, Listeners
    from storefront.patience import Patience
    from storefront.peers import Orders

SOURCE: Final = "storefront"
COMMANDS: Final = "orders.commands.v1"
KNOWN_ORDERS: Final = 20_000
"""Orders whose last state is remembered, so that a payment needs no question."""
NEVER_CAME_AFTER_S: Final = 120.0
"""Longer than a command of which the broker never said that it has it may turn up."""


class Asked(NamedTuple):
    """How a request asks."""

    until: float
    """A time of the event loop: see `Patience.begin`."""
    traceparent: str | None = None
    keyed: bool = False
    """Its id comes from an `Idempotency-Key`, under which other content may have come."""


class Known(NamedTuple):
    """What is remembered of an order."""

    user_id: str | None
    status: OrderStatus
    version: int


class Desk:
    """Asks for orders, payments and cancellations."""

    def __init__(
        self, events: Listeners, outbound: Outbound, orders: Orders, patience: Patience
    ) -> None:
        """What takes longer than `patience` lasts is answered 202."""
        self._events = events
        self._outbound = outbound
        self._orders = orders
        self.patience = patience
        self._known: Latest[str, Known] = Latest(KNOWN_ORDERS)
        self._under_way: set[str] = set()
        """Ids of commands that came with an `Idempotency-Key`, and that somebody waits for."""

    @contextmanager
    def alone(self, command_id: str, order_id: str) -> Iterator[None]:
        """Nobody else here asks for the same meanwhile. Raises ProblemError (409)."""
        if command_id in self._under_way:
            raise _in_flight(order_id)
        self._under_way.add(command_id)
        try:
            yield
        finally:
            self._under_way.discard(command_id)

    async def place(self, order: PlaceOrder, asked: Asked) -> Answer:
        """Place `order`. Raises ProblemError."""
        answer = await self._ask(Question.PLACE, order, asked)
        if not asked.keyed or answer.status is HTTPStatus.ACCEPTED:
            return answer
        # another's order may have come under this key since `before`, and be what was heard of
        if (stored := await self._look(order.order_id, asked)) is not None:
            _require_same(order, stored)
            return self._again(order, stored) if answer.order is None else answer
        if not answer.is_problem:
            return Answer(HTTPStatus.ACCEPTED, answer.order)
        if answer.order is not None or answer.reason == CommandRefusal.ORDER_ID_REUSED:
            raise _in_flight(order.order_id)
        return answer

    async def before(self, order: PlaceOrder, asked: Asked) -> Answer | None:
        """What became of `order` when it was placed before; None where it wasn't, or nobody can
        say: placed again, it is known again. Raises ProblemError (409, 422)."""
        stored = await self._look(order.order_id, asked)
        return None if stored is None else self._again(order, stored)

    async def pay(self, command: PayOrder, asked: Asked) -> Answer:
        """Pay an order. Under a key, whether it is paid already doesn't tell the answer. Raises
        ProblemError."""
        return await self._change(Question.PAY, command, asked)

    async def cancel(self, command: CancelOrder, asked: Asked) -> Answer:
        """Cancel an order. Raises ProblemError."""
        return await self._change(Question.CANCEL, command, asked)

    async def show(self, order_id: str, user_id: str | None) -> OrderDocument:
        """An order as it is now; another user's is as one that isn't there. Raises ProblemError."""
        if not is_id(order_id):
            raise unknown("such order")
        stored = (await self._orders.read([order_id])).get(order_id)
        # one that was just placed here may not have been read by the orchestrator
        order = self._remembered(order_id) if stored is None else stored.public()
        if order is None or (user_id is not None and order.user_id != user_id):
            raise unknown(f"order {order_id}")
        return self._learn(order)

    async def paid_or_gone(self, ages_s: Mapping[str, float], asked: Asked) -> Sequence[str]:
        """Those of the orders that wait for no payment any more: they have their outcome, or never
        came to be. `ages_s`: order id -> since when it is counted. Raises ProblemError."""
        async with self._looking(asked):
            found = await self._orders.read(list(ages_s))
        return [
            order_id
            for order_id, age_s in ages_s.items()
            if (
                found[order_id].status in OUTCOMES
                if order_id in found
                else age_s > NEVER_CAME_AFTER_S
            )
        ]

    async def _change(
        self, question: Question, command: PayOrder | CancelOrder, asked: Asked
    ) -> Answer:
        order_id = command.order_id
        order = self._remembered(order_id)
        if order is None or (not asked.keyed and order.status in OUTCOMES):
            async with self._looking(asked):
                order = await self.show(order_id, command.user_id)
        if order.user_id != command.user_id:
            raise unknown(f"order {order_id}")
        if not asked.keyed and (answer := answer_of(question, order)) is not None:
            return answer
        answer = await self._ask(question, command, asked)
        if answer.reason not in (CommandRefusal.COMMAND_ID_REUSED, CommandRefusal.ALREADY_PAID):
            return answer
        stored = await self._look(order_id, asked)
        now = self._learn(order if stored is None else stored.public())
        if answer.reason == CommandRefusal.COMMAND_ID_REUSED and order.status not in OUTCOMES:
            # Two came at once under one key, at two storefronts; both hear of the refusal, and
            # nothing tells whose it is. Once the order has its outcome, each hears its own.
            raise _in_flight(order_id)
        return answer if asked.keyed else answer_of(question, now) or answer

    async def _ask(
        self, question: Question, command: PlaceOrder | PayOrder | CancelOrder, asked: Asked
    ) -> Answer:
        order_id = command.order_id
        with self._events.listen(order_id, order_id) as ear:
            await self._published(command, order_id, asked.traceparent)
            if isinstance(command, PlaceOrder):
                self._learn(_placed(command))
            try:
                async with self.patience.lasting(asked.until):
                    return await self._settled(question, message_id(command), ear)
            except TimeoutError:
                return await self._late(question, command, asked)

    async def _published(
        self, command: PlaceOrder | PayOrder | CancelOrder, order_id: str, traceparent: str | None
    ) -> None:
        record = record_of(COMMANDS, command, SOURCE, datetime.now(UTC), traceparent)
        try:
            await self._outbound.publish(record)
        except NeverPublishedError as error:
            raise not_sent() from error
        except NotPublishedError as error:
            raise unavailable(
                "the broker has not acknowledged, so this may happen or not: ask for the order, or"
                " send the same again under the same Idempotency-Key",
                reason="broker_away",
                order_id=order_id,
            ) from error

    async def _settled(self, question: Question, command_id: str, ear: Ear) -> Answer:
        while True:
            found = heard(question, await ear.next(), command_id)
            if isinstance(found, OrderDocument):
                self._learn(found)
            elif found is not None:
                if found.order is not None:
                    self._learn(found.order)
                return found

    async def _late(
        self, question: Question, command: PlaceOrder | PayOrder | CancelOrder, asked: Asked
    ) -> Answer:
        """Nothing was heard in time: how the order stands, or that it is under way."""
        order = self._remembered(command.order_id)
        if (stored := await self._look(command.order_id, asked)) is not None:
            order = self._learn(stored.public())
            if isinstance(command, PlaceOrder):
                _require_same(command, stored)
            if (answer := answer_of(question, order)) is not None:
                return answer
        LATE.labels(question).inc()
        return Answer(HTTPStatus.ACCEPTED, order)

    @asynccontextmanager
    async def _looking(self, asked: Asked) -> AsyncIterator[None]:
        """Ask inside how things are. Raises ProblemError where the answer comes too late."""
        try:
            async with self.patience.lasting(asked.until, at_least_s=LOOK_S):
                yield
        except TimeoutError:
            raise unavailable("orders can't be read now; try again", reason="orders_away") from None

    async def _look(self, order_id: str, asked: Asked) -> StoredOrder | None:
        """The order as it is stored; None where it isn't, or nobody says so in time."""
        try:
            async with self._looking(asked):
                return (await self._orders.read([order_id])).get(order_id)
        except ProblemError:
            return None

    def _again(self, order: PlaceOrder, stored: StoredOrder) -> Answer:
        """What a key answers that an order was stored under. Raises ProblemError (409, 422)."""
        document = self._learn(stored.public())
        _require_same(order, stored)
        answer = answer_of(Question.PLACE, document)
        if answer is None:
            raise _in_flight(order.order_id)
        return answer

    def _remembered(self, order_id: str) -> OrderDocument | None:
        known = self._known.get(order_id)
        return known and OrderDocument(order_id=order_id, **known._asdict())

    def _learn(self, order: OrderDocument) -> OrderDocument:
        known = self._known.get(order.order_id)
        if known is None or known.version <= order.version:
            self._known[order.order_id] = Known(order.user_id, order.status, order.version)
        return order


def _require_same(order: PlaceOrder, stored: StoredOrder) -> None:
    """Raises ProblemError (422) where another order came under this key."""
    if stored.fingerprint != order.fingerprint().hex():
        raise _other_content(stored.public())


def _placed(order: PlaceOrder) -> OrderDocument:
    return OrderDocument(
        order_id=order.order_id,
        user_id=order.user_id,
        status=OrderStatus.PENDING,
        version=1,
        reference=order.reference,
    )


def _in_flight(order_id: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.CONFLICT,
        "the first request with this key is still under way; ask again in a moment",
        reason="in_flight",
        order_id=order_id,
        headers={"retry-after": "1"},
    )


def _other_content(order: OrderDocument) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "this Idempotency-Key came with another body before; use a new key for a new order",
        reason="order_id_reused",
        order=order,
    )
