"""What became of the orders, read from the public topics to their end."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from local_stack.demo.expectations import kind_of
from local_stack.streams import everything
from orderctl.order_files import COMMANDS
from shared.contracts.reading import readable_fields
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection

EVENTS: Final = "orders.events.v1"
OUTCOMES: Final = frozenset({"OrderConfirmed", "OrderRejected", "OrderCancelled"})
DEAD_LETTERS: Final = tuple(name for name, topic in TOPICS.items() if topic.kind == "dead_letters")


class Outcome(NamedTuple):
    """How an order ended."""

    status: str
    reason: str
    """Empty where it was confirmed."""
    at_ms: int
    """When the event was written to the broker, milliseconds since the epoch."""

    @property
    def text(self) -> str:
        """As expectations name it."""
        return f"{self.status} {self.reason}".rstrip()


@dataclass(slots=True)
class Results:
    """All orders of the topics, by order id."""

    placed_ms: dict[str, int] = field(default_factory=dict)
    """When the first `PlaceOrder` was written to the broker."""
    unpaid: set[str] = field(default_factory=set)
    """Orders to be paid later: their time is their user's."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    contradictory: set[str] = field(default_factory=set)
    """Orders with two outcomes that differ."""
    refusals: dict[str, Counter[str]] = field(default_factory=dict)
    """Kind -> command and reason -> how many."""
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(Topic, reason) -> how many."""
    without_order: Counter[str] = field(default_factory=Counter)
    """Reason -> how many dead letters of orders' commands have no order id that can be read."""

    def outcomes_of(self, kind: str) -> Counter[str]:
        """How many orders of a kind ended how; those without an outcome are `no outcome`."""
        return Counter(
            self.outcomes[order_id].text if order_id in self.outcomes else "no outcome"
            for order_id in self.orders_of(kind)
        )

    def orders_of(self, kind: str) -> list[str]:
        """The ids of the orders of a kind."""
        return [order_id for order_id in self.placed_ms if kind_of(order_id) == kind]

    def timings(self, order_ids: Iterable[str]) -> "Timings | None":
        """The times of those orders that were to be paid at once and have an outcome."""
        timed = [
            (self.placed_ms[order_id], self.outcomes[order_id].at_ms)
            for order_id in order_ids
            if order_id in self.outcomes and order_id not in self.unpaid
        ]
        if not timed:
            return None
        taken = sorted(ended - placed for placed, ended in timed)
        first = min(placed for placed, _ in timed)
        last = max(ended for _, ended in timed)
        return Timings(
            orders=len(timed),
            took_ms=max(1, last - first),
            p50_ms=taken[len(taken) // 2],
            p99_ms=taken[min(len(taken) - 1, len(taken) * 99 // 100)],
        )


class Timings(NamedTuple):
    """From `PlaceOrder` to outcome, by the broker's timestamps."""

    orders: int
    took_ms: int
    """From the first order to the last outcome."""
    p50_ms: int
    p99_ms: int

    @property
    def per_second(self) -> float:
        return self.orders / self.took_ms * 1000


async def read_results(connection: KafkaConnection) -> Results:
    """Read everything. Raises TopicError and the broker's errors."""
    results = Results()
    async for record in everything(connection, [COMMANDS]):
        _add_command(results, readable_fields(record.value or b""), record.timestamp)
    async for record in everything(connection, [EVENTS]):
        _add_event(results, json.loads(record.value or b"{}"), record.timestamp)
    async for record in everything(connection, DEAD_LETTERS):
        headers = dict(record.headers)
        reason = headers.get("dlq-reason", b"").decode()
        results.dead_letters[connection.plain(record.topic), reason] += 1
        of_orders = headers.get("dlq-original-topic", b"").decode() == connection.named(COMMANDS)
        if of_orders and not isinstance(readable_fields(record.value or b"").get("orderId"), str):
            results.without_order[reason] += 1
    return results


def _add_command(results: Results, fields: Mapping[str, Any], at_ms: int) -> None:
    order_id = fields.get("orderId")
    if isinstance(order_id, str) and fields.get("type") == "PlaceOrder":
        results.placed_ms.setdefault(order_id, at_ms)
        if fields.get("pay") == "later":
            results.unpaid.add(order_id)


def _add_event(results: Results, event: Mapping[str, Any], at_ms: int) -> None:
    if event["type"] == "CommandRefused":
        counts = results.refusals.setdefault(kind_of(event["key"]), Counter())
        counts[f"{event['command']} {event['reason']}"] += 1
    elif event["type"] in OUTCOMES:
        outcome = Outcome(event["status"], event.get("reason", ""), at_ms)
        first = results.outcomes.setdefault(event["orderId"], outcome)
        if first.text != outcome.text:
            results.contradictory.add(event["orderId"])
