"""Instances of a service without Kafka: the real handlers, in the pipeline's own transactions."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final, cast

from shared.contracts.base import fingerprint, message_id
from shared.contracts.topics import GROUPS, TOPICS
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.messages import Delivery, Received

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.pipeline.messages import Refusal, Route
    from shared.pipeline.outbox import Chunk, Row
    from shared.pipeline.relay import Relay

TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
"""Of every message that is delivered here."""
LEASE_S: Final = 30.0

_TOPIC_OF: Final[Mapping[type[Message], str]] = {
    message: topic
    for topics in GROUPS.values()
    for topic in topics
    for message in TOPICS[topic].messages
}
"""Type of a message that some group reads -> the topic that it comes from."""

_offsets = count()


class RecordingRelay:
    """Stands where the relay does: what a commit hands over is kept and published to nobody."""

    def __init__(self, owner: str) -> None:
        """`owner` is the instance that holds the chunks' leases."""
        self.owner = owner
        self.rows: list[Row] = []

    def submit(self, chunks: Sequence[Chunk]) -> None:
        """Keep the rows, in the order in which they would be published."""
        self.rows.extend(row for chunk in chunks for row in chunk.rows)

    def take(self) -> list[Row]:
        """The rows since the last time."""
        taken, self.rows = self.rows, []
        return taken

    def ids(self, topic: str) -> list[str]:
        """The ids of what is to be published on `topic`."""
        return [row.message_id for row in self.rows if row.topic == topic]


class Replica:
    """One instance: the pipeline's transactions, retries and halving around a service's routes."""

    def __init__(self, owner: str, pool: Pool, routes: Iterable[Route]) -> None:
        """`owner` is the instance's name, as in `stock-0`; `pool` may be shared with others."""
        self.owner = owner
        self.pool = pool
        self._routes = {route.group: route for route in routes}
        self._groups = {
            topic: route.group for route in self._routes.values() for topic in route.topics
        }

    async def run(self, *messages: Message) -> list[Row]:
        """Run one chunk of one group; returns the rows of the outbox that it submits, in order."""
        return await self.run_chunk(deliver(*messages))

    async def run_chunk(
        self, deliveries: Sequence[Delivery], refusals: Sequence[Refusal] = ()
    ) -> list[Row]:
        """Run one chunk of what came off topics of one group; returns what `run` does."""
        places = [one.received for one in deliveries] + [one.received for one in refusals]
        (group,) = {self._groups[place.topic] for place in places}
        # chunks may run at the same time: each has a relay of its own
        relay = RecordingRelay(self.owner)
        runner = ChunkRunner(self._routes[group], self.pool, cast("Relay", relay), lease_s=LEASE_S)
        await runner.run(deliveries, refusals)
        return relay.rows


def deliver(
    *messages: Message,
    topic: str | None = None,
    partition: int = 0,
    offsets: Iterator[int] = _offsets,
) -> list[Delivery]:
    """The messages as they come off their topic, or under the same keys off another `topic`.

    `offsets` are counted over all topics by default. Raises KeyError where no group reads such a
    message.
    """
    return [_delivery(message, topic, partition, next(offsets)) for message in messages]


def _delivery(message: Message, topic: str | None, partition: int, offset: int) -> Delivery:
    own = _TOPIC_OF[type(message)]
    key = TOPICS[own].key_of(message).encode()
    received = Received(topic or own, partition, offset, 0, key, message.to_bytes(), TRACEPARENT)
    return Delivery(message, message_id(message), fingerprint(message), received, TRACEPARENT)
