"""Chunks of users' commands, replies and dead letters become transitions: load, fold, save."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from order_orchestrator.dead_letters import (
    UNREADABLE_SAGA,
    DeadLetteredStep,
    of_another_order,
    set_aside,
)
from order_orchestrator.events import Ignored, IgnoreReason, Refused, StepDeadLettered
from order_orchestrator.intake import Arrival, accept, reject_unreadable
from order_orchestrator.metrics import IGNORED, REFUSED
from order_orchestrator.outcomes import outcome_event
from order_orchestrator.timing import waits_for_reply
from shared import crash_points
from shared.contracts.base import digest, message_id
from shared.contracts.orders import CancelOrder, PayOrder, PlaceOrder
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.pipeline import Committed, Delivery, Outgoing, Refusal
from shared.pipeline.answers import command_refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from order_orchestrator.admission import Admission, Starts
    from order_orchestrator.chunk import SagaChunk, Sagas
    from order_orchestrator.domain import Saga
    from order_orchestrator.saga import Reply
    from order_orchestrator.store import Parked
    from shared.database import Connection, Write

UNKNOWN_ORDER = "unknown_order"


class OrderCommands:
    """Places orders, and gives payments and cancellations to their sagas."""

    def __init__(self, currency: str, sagas: Sagas, admission: Admission) -> None:
        """`currency` is the deployment's."""
        self._currency = currency
        self._sagas = sagas
        self._admission = admission

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Decide the commands of a chunk, in their order."""
        store = self._sagas.store(connection)
        chunk = await self._sagas.load(store, map(_order_id, deliveries))
        placed = {
            _order_id(delivery) for delivery in deliveries if type(delivery.message) is PlaceOrder
        } - (chunk.loaded.keys() | store.unreadable)
        parked = _Parking(await store.unpark(placed) if placed else [])
        starts = self._admission.begin()
        crash_points.reach("after_load")

        refusals: list[Refusal] = []
        for delivery in deliveries:
            if _order_id(delivery) in store.unreadable:
                refusals.append(set_aside(delivery, CommandRefusal.TEMPORARILY_UNAVAILABLE))
                continue
            match delivery.message:
                case PlaceOrder() as place:
                    refused = self._place(chunk, place, delivery, parked, starts)
                case PayOrder() | CancelOrder() as command:
                    refused = _give(chunk, command, delivery, parked)
                case other:
                    raise TypeError(f"{other.type} is no command of orders")
            if refused is not None:
                refusals.append(refused)

        parking = [store.park(parked.waiting)] if parked.waiting else []
        return [*chunk.save(store), *parking, *refusals, Committed(starts.commit)]

    async def refuse(
        self, connection: Connection, refusals: Sequence[Refusal]
    ) -> Sequence[Outgoing | Write | Committed]:
        """Answer what can't be obeyed; an unreadable new `PlaceOrder` is stored as rejected."""
        store = self._sagas.store(connection)
        unreadable = {
            refusal.unreadable.order_id: refusal
            for refusal in refusals
            if refusal.unreadable is not None
            and refusal.unreadable.type == "PlaceOrder"
            and refusal.unreadable.order_id is not None
        }
        chunk = await self._sagas.load(store, unreadable)
        known = chunk.loaded.keys() | store.unreadable
        for order_id, refusal in unreadable.items():
            if order_id in known:
                continue
            found = refusal.unreadable
            assert found is not None
            arrival = Arrival(
                chunk.now,
                self._currency,
                digest(refusal.received.value or b""),
                refusal.received.traceparent,
            )
            chunk.add(
                reject_unreadable(order_id, found.user_id, refusal.detail, arrival, chunk.limits)
            )
        for refusal in refusals:
            found = refusal.unreadable
            if found is not None and found.order_id in unreadable and found.order_id not in known:
                continue
            answer = command_refused(refusal)
            if answer is not None:
                chunk.say(answer.key, answer, refusal.received.traceparent)
        return chunk.save(store)

    def _place(
        self,
        chunk: SagaChunk,
        place: PlaceOrder,
        delivery: Delivery,
        parked: _Parking,
        starts: Starts,
    ) -> Refusal | None:
        saga = chunk.get(place.order_id)
        if saga is not None:
            return _place_again(chunk, saga, delivery)
        early = parked.take(place.order_id)
        cancels = any(isinstance(command, CancelOrder) for command, _ in early)
        arrival = Arrival(chunk.now, self._currency, delivery.fingerprint, delivery.traceparent)
        start = not cancels and starts.try_start()
        chunk.add(accept(place, arrival, chunk.limits, start=start))
        for command, traceparent in early:
            give_parked(chunk, place.order_id, command, traceparent)
        return None


class Replies:
    """Gives the participants' replies to their sagas."""

    def __init__(self, sagas: Sagas, admission: Admission) -> None:
        """What comes to rest makes room for others."""
        self._sagas = sagas
        self._admission = admission

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Apply the replies of a chunk, in their order; the engine knows duplicates itself."""
        store = self._sagas.store(connection)
        chunk = await self._sagas.load(store, map(_order_id, deliveries))
        crash_points.reach("after_load")
        refusals: list[Refusal] = []
        for delivery in deliveries:
            if _order_id(delivery) in store.unreadable:
                refusals.append(set_aside(delivery, UNREADABLE_SAGA))
                continue
            if not delivery.message_id.startswith(f"{_order_id(delivery)}:"):
                IGNORED.labels(IgnoreReason.OTHER_ORDER).inc()
                refusals.append(of_another_order(delivery))
                continue
            saga = chunk.get(_order_id(delivery))
            if saga is None:
                IGNORED.labels(UNKNOWN_ORDER).inc()
                continue
            chunk.apply(saga, cast("Reply", delivery.message), delivery.traceparent)
        saved = chunk.save(store)
        left = sum(
            waits_for_reply(before) and not waits_for_reply(cast("Saga", chunk.get(order_id)))
            for order_id, before in chunk.loaded.items()
        )
        return [*saved, *refusals, Committed(partial(self._admission.left, left))]


class DeadLetters:
    """Marks the saga of an internal dead letter as stuck: nobody will answer that command."""

    def __init__(self, sagas: Sagas) -> None:
        """Wire it."""
        self._sagas = sagas

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Tell the sagas of a chunk of dead letters."""
        store = self._sagas.store(connection)
        chunk = await self._sagas.load(store, map(_order_id, deliveries))
        for delivery in deliveries:
            step = cast("DeadLetteredStep", delivery.message)
            if step.order_id in store.unreadable:
                IGNORED.labels(UNREADABLE_SAGA).inc()  # an operator is asked already
                continue
            saga = chunk.get(step.order_id)
            if saga is None:
                IGNORED.labels(UNKNOWN_ORDER).inc()
                continue
            why = f"{step.reason}, see {delivery.received.topic}"
            event = StepDeadLettered(step.command_id, why)
            chunk.apply(saga, event, delivery.traceparent)
        return chunk.save(store)


class _Parking:
    """Commands that wait for their order: those taken out of the table, and those of this chunk."""

    def __init__(self, taken: Sequence[Parked]) -> None:
        self._taken: dict[str, list[tuple[PayOrder | CancelOrder, str]]] = {}
        for row in taken:
            self._taken.setdefault(row.order_id, []).append((read_parked(row), row.traceparent))
        self._new: dict[str, list[tuple[PayOrder | CancelOrder, str]]] = {}

    def put(self, command: PayOrder | CancelOrder, traceparent: str) -> None:
        """Keep `command` until its order comes."""
        self._new.setdefault(command.order_id, []).append((command, traceparent))

    def take(self, order_id: str) -> list[tuple[PayOrder | CancelOrder, str]]:
        """The commands that waited for this order, in the order in which they came."""
        return [*self._taken.pop(order_id, ()), *self._new.pop(order_id, ())]

    @property
    def waiting(self) -> list[tuple[str, str, Any, str]]:
        """What is still to be kept, as the store takes it."""
        return [
            (order_id, command.command_id, command, traceparent)
            for order_id, commands in sorted(self._new.items())
            for command, traceparent in commands
        ]


def read_parked(row: Parked) -> PayOrder | CancelOrder:
    """The command that was parked."""
    model: type[PayOrder | CancelOrder] = (
        PayOrder if row.command_type == "PayOrder" else CancelOrder
    )
    return model.model_validate_json(row.body)


def give_parked(
    chunk: SagaChunk, order_id: str, command: PayOrder | CancelOrder, traceparent: str
) -> None:
    """Give a parked command to its saga. It left its topic long ago, so that a refusal is
    answered and not dead-lettered."""
    saga = chunk.get(order_id)
    if saga is None:
        return
    result = chunk.apply(saga, command, traceparent)
    if isinstance(result, Refused):
        chunk.say(order_id, refused_command(command, result), traceparent)


def refused_command(command: PayOrder | CancelOrder, refused: Refused) -> CommandRefused:
    """The answer to a command of a user."""
    return CommandRefused(
        command_id=message_id(command),
        command=command.type,
        key=command.order_id,
        reason=CommandRefusal(refused.reason),
        detail=refused.detail,
    )


def _give(
    chunk: SagaChunk, command: PayOrder | CancelOrder, delivery: Delivery, parked: _Parking
) -> Refusal | None:
    saga = chunk.get(command.order_id)
    if saga is None:
        parked.put(command, delivery.traceparent)
        return None
    result = chunk.apply(saga, command, delivery.traceparent)
    if isinstance(result, Refused):
        return Refusal(delivery.received, result.reason, result.detail, command)
    if isinstance(result, Ignored):
        _tell_again(chunk, saga, delivery)
    return None


def _place_again(chunk: SagaChunk, saga: Saga, delivery: Delivery) -> Refusal | None:
    """The same order again: the outcome is told again, where there is one. Other content under
    the same id is refused, also when the inbox has forgotten the first."""
    if saga.order.fingerprint != delivery.fingerprint:
        REFUSED.labels(CommandRefusal.ORDER_ID_REUSED).inc()
        return Refusal(
            delivery.received,
            CommandRefusal.ORDER_ID_REUSED,
            f"order {saga.order.order_id} was placed before with other content; the first one"
            " counts. Place a new order under a new id.",
            delivery.message,
        )
    _tell_again(chunk, saga, delivery)
    return None


def _tell_again(chunk: SagaChunk, saga: Saga, delivery: Delivery) -> None:
    """A command that came before: whoever sends it again hears the outcome, where there is one."""
    outcome = outcome_event(saga)
    if outcome is not None:
        chunk.say(saga.order.order_id, outcome, delivery.traceparent)


def _order_id(delivery: Delivery) -> str:
    order_id: str = delivery.message.order_id  # type: ignore[attr-defined]
    return order_id
