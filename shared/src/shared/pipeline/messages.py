"""What goes into a chunk, what comes out of it, and who handles it.

What is made for each message is a named tuple: half as dear to make as a frozen dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shared.contracts.base import message_id
from shared.contracts.refusals import Refused
from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from prometheus_client import Counter

    from shared.contracts.base import Message
    from shared.contracts.reading import Reader, Unreadable
    from shared.database import Connection, Write


class Received(NamedTuple):
    """One record as it came: what a dead letter must keep, and where it lay."""

    topic: str
    """The contract's name of the topic, without the deployment's prefix."""
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    traceparent: str


class Delivery(NamedTuple):
    """One validated message of a chunk."""

    message: Message
    message_id: str
    fingerprint: bytes
    received: Received
    traceparent: str
    """The context that whatever is written because of this message goes on with."""
    duplicate: bool = False
    """The inbox knew this message: nothing may happen again, the stored answer is sent again."""

    def answer(self, topic: str, answer: Message) -> Outgoing:
        """`answer` on `topic`, in this message's trace."""
        key = TOPICS[topic].key_of(answer)
        asked = (self.message.type, self.message_id)
        return Outgoing(topic, key, answer, message_id(answer), self.traceparent, asked)

    def decided(self, topic: str, decision: Message | Refused) -> Outgoing | Refusal:
        """What is to be said of a decision on this message: an answer on `topic`, or a refusal."""
        if isinstance(decision, Refused):
            return Refusal(self.received, decision.reason, decision.detail, self.message)
        return self.answer(topic, decision)


class Outgoing(NamedTuple):
    """One message to be published: one row of the outbox."""

    topic: str
    key: str
    message: Message
    message_id: str
    traceparent: str
    asked: tuple[str, str] | None = None
    """Type and id of the request that this answers."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Something to do once the transaction is committed, in memory: counting, remembering.

    It is not done where the process dies or the reply to COMMIT is lost.
    """

    do: Callable[[], None]

    @classmethod
    def count(cls, counter: Counter, labels: Iterable[str]) -> Committed:
        """Raise `counter` by one for each of `labels`: a chunk that is run again counts once."""
        counted = list(labels)

        def count() -> None:
            for label in counted:
                counter.labels(label).inc()

        return cls(count)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that can't be obeyed. It is dead-lettered, has no effect, and its id stays free."""

    received: Received
    reason: str
    """A short word out of a closed set: the `dlq-reason` header and a metric's label."""
    detail: str
    """A sentence that says what is wrong and what to do."""
    message: Message | None = None
    """Where it could be read."""
    unreadable: Unreadable | None = None
    """Where it could not: what could be made out of it."""
    attempts: int = 1


class ApartError(Exception):
    """Some messages of a chunk have to wait for what isn't committed yet: the others go first, and
    those that wait are a chunk of their own after that."""

    def __init__(self, waiting: Iterable[Delivery]) -> None:
        """At least one is waiting, and at least one isn't."""
        super().__init__("some messages of a chunk have to wait")
        self._waiting = {id(delivery.received) for delivery in waiting}

    def split(self, deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """Those that go first, and those that wait, each in their order."""
        first = [one for one in deliveries if id(one.received) not in self._waiting]
        return first, [one for one in deliveries if id(one.received) in self._waiting]


class Handler(Protocol):
    """Turns a chunk into effects, inside the transaction that the pipeline opens and commits."""

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Write | Refusal | Committed]:
        """Load and fold; return what is to be saved, what is to be published, and what can't be
        obeyed.

        Raises `Conflict` when the chunk must be run again from the start, `ApartError` where some
        of it has to wait for the rest, and whatever the fold raises on a message that it can't
        bear.
        """


class RefusalHandler(Protocol):
    """Answers messages that can't be obeyed, in the transaction that dead-letters them."""

    async def __call__(
        self, connection: Connection, refusals: Sequence[Refusal]
    ) -> Sequence[Outgoing | Write | Committed]:
        """Return the answers, for example a `CommandRefused` for each that names its command."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a consumer group reads, and who handles it: a row of a service's routing table."""

    group: str
    topics: tuple[str, ...]
    handler: Handler
    refused: RefusalHandler | None = None
    keeps_answers: bool = False
    """The inbox keeps the answers for good and gives them to duplicates, which the handler then
    never sees: for requests, whose effect has no record of its own to answer from."""
    pace: Callable[[Sequence[Delivery], Callable[[], bool]], Awaitable[None]] | None = None
    """Waits before a chunk begins, outside of its transaction and for a bounded time; a short one
    once the function given says that the group is to stop or to give partitions away."""
    begin: Callable[[Sequence[Delivery]], AbstractAsyncContextManager[Handler]] | None = None
    """Asks others what they say of a chunk, before its transaction begins and while no lock is
    held, and gives the handler that knows the answer, for one transaction: it is asked anew before
    each, and left when that has ended, committed or not. `handler` is what handles where nobody
    asked."""
    readers: Mapping[str, Reader] | None = None
    """How values are read, by topic; by default as the registry of topics says."""


def in_order_of_arrival(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """First come, first served over all partitions, as their timestamps say. Within a partition
    the order of its offsets stays, whatever the timestamps say."""
    latest: dict[tuple[str, int], int] = {}
    arrivals = []
    for delivery in deliveries:
        place = delivery.received.topic, delivery.received.partition
        latest[place] = max(latest.get(place, 0), delivery.received.timestamp_ms)
        arrivals.append(latest[place])
    order = sorted(range(len(deliveries)), key=arrivals.__getitem__)
    return [deliveries[number] for number in order]
