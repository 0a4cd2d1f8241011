"""From a user's wish to its answer: a command is published, and the order's events answer it.

    listen for the order  ->  publish, and the broker acknowledges  ->  the event that settles it

What was acknowledged happens, whatever becomes of this process: who asks again, under the same
`Idempotency-Key` or order id, hears how it went. What is not settled in time is answered 202.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.contracts.base import message_id
from shared.contracts.ids import is_id
from shared.contracts.order_document import OrderDocument
from shared.contracts.order_parts import OrderStatus
from shared.kafka.cloudevents import record_of
from shared.kafka.outbound import NeverPublishedError, NotPublishedError
from storefront.domain import OUTCOMES, Answer, Question, answer_of, heard
from storefront.metrics import LATE
from storefront.problems import ProblemError, not_sent, unavailable, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.contracts.base import Message
    from shared.contracts.order_document import StoredOrder
    from shared.contracts.orders import CancelOrder, PayOrder, PlaceOrder
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


class Desk:
    """Asks for orders, payments and cancellations."""

    def __init__(
        self, events: Listeners, outbound: Outbound, orders: Orders, patience: Patience
    ) -> None:
        """What takes longer than `patience` lasts is answered 202."""
        self._events = events
        self._outbound = outbound
        self._orders = orders
        self._patience = patience
        self._known: OrderedDict[str, OrderDocument] = OrderedDict()
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

    async def place(self, order: PlaceOrder, traceparent: str | None) -> Answer:
        """Place `order`. Raises ProblemError."""
        return await self._ask(Question.PLACE, order.order_id, order, traceparent)

    async def before(self, order: PlaceOrder) -> Answer | None:
        """What became of `order` when it was placed before; None where it wasn't, or nobody can
        say: placed again, it is known again. Raises ProblemError (409, 422)."""
        try:
            stored = (await self._orders.read([order.order_id])).get(order.order_id)
        except ProblemError:
            return None
        return None if stored is None else self._again(order, stored)

    async def pay(self, command: PayOrder, traceparent: str | None, *, keyed: bool) -> Answer:
        """Pay an order. `keyed`: its id comes from an `Idempotency-Key`, so that whether the order
        is paid already doesn't tell its answer. Raises ProblemError."""
        return await self._change(Question.PAY, command, traceparent, keyed=keyed)

    async def cancel(self, command: CancelOrder, traceparent: str | None) -> Answer:
        """Cancel an order. Raises ProblemError."""
        return await self._change(Question.CANCEL, command, traceparent, keyed=False)

    async def show(self, order_id: str, user_id: str | None) -> OrderDocument:
        """An order as it is now; another user's is as one that isn't there. Raises ProblemError."""
        if not is_id(order_id):
            raise unknown("such order")
        stored = (await self._orders.read([order_id])).get(order_id)
        # one that was just placed here may not have been read by the orchestrator
        order = self._known.get(order_id) if stored is None else stored.public()
        if order is None or (user_id is not None and order.user_id != user_id):
            raise unknown(f"order {order_id}")
        return self._learn(order)

    async def paid_or_gone(self, ages_s: Mapping[str, float]) -> Sequence[str]:
        """Those of the orders that wait for no payment any more: they have their outcome, or never
        came to be. `ages_s`: order id -> since when it is counted. Raises ProblemError."""
        found = await self._orders.read(list(ages_s)) if ages_s else {}
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
        self,
        question: Question,
        command: PayOrder | CancelOrder,
        traceparent: str | None,
        *,
        keyed: bool,
    ) -> Answer:
        order_id = command.order_id
        order = self._known.get(order_id) or await self.show(order_id, command.user_id)
        if order.user_id != command.user_id:
            raise unknown(f"order {order_id}")
        if not keyed and (answer := answer_of(question, order)) is not None:
            return answer
        return await self._ask(question, order_id, command, traceparent)

    async def _ask(
        self, question: Question, order_id: str, command: Message, traceparent: str | None
    ) -> Answer:
        until = self._patience.begin()
        with self._events.listen(order_id, order_id) as ear:
            await self._published(command, order_id, traceparent)
            if question is Question.PLACE:
                self._learn(_placed(command))  # type: ignore[arg-type]
            try:
                async with self._patience.lasting(until):
                    answer = await self._settled(question, message_id(command), ear)
            except TimeoutError:
                answer = await self._late(question, order_id)
        if answer.order is None and answer.status is HTTPStatus.UNPROCESSABLE_ENTITY:
            return await self._reused(question, command, answer)
        return answer

    async def _published(self, command: Message, order_id: str, traceparent: str | None) -> None:
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

    async def _late(self, question: Question, order_id: str) -> Answer:
        """Nothing was heard in time: how the order stands, or that it is under way."""
        try:
            stored = (await self._orders.read([order_id])).get(order_id)
        except ProblemError:
            stored = None
        if stored is not None:
            order = self._learn(stored.public())
            if (answer := answer_of(question, order)) is not None:
                return answer
        LATE.labels(question).inc()
        return Answer(HTTPStatus.ACCEPTED, self._known.get(order_id))

    def _again(self, order: PlaceOrder, stored: StoredOrder) -> Answer:
        """The order's key was used before."""
        document = self._learn(stored.public())
        if stored.fingerprint != order.fingerprint().hex():
            raise _other_content(document)
        answer = answer_of(Question.PLACE, document)
        if answer is None:
            raise _in_flight(order.order_id)
        return answer

    async def _reused(self, question: Question, command: Message, answer: Answer) -> Answer:
        """Somebody's command under this id had other content; maybe it was another's than ours."""
        if question is not Question.PLACE:
            return answer
        stored = (await self._orders.read([message_id(command)])).get(message_id(command))
        if stored is None:
            return answer
        return self._again(command, stored)  # type: ignore[arg-type]

    def _learn(self, order: OrderDocument) -> OrderDocument:
        known = self._known.get(order.order_id)
        if known is None or known.version <= order.version:
            self._known[order.order_id] = order
            self._known.move_to_end(order.order_id)
            if len(self._known) > KNOWN_ORDERS:
                self._known.popitem(last=False)
        return order


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
