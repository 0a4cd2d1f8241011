"""One consumer group of a service: records in, chunks run, offsets out."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from faststream import AckPolicy

from shared.contracts.base import fingerprint, message_id
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS
from shared.pipeline.messages import Delivery, Received, Refusal
from shared.pipeline.offsets import Offsets
from shared.pipeline.subscriber import PatientSubscriber
from shared.telemetry import metrics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka import AIOKafkaConsumer
    from faststream.kafka import KafkaBroker

    from shared.kafka.connection import KafkaConnection
    from shared.pipeline.chunk import ChunkRunner
    from shared.pipeline.messages import Route
    from shared.pipeline.subscriber import Records
    from shared.settings import ServiceSettings
    from shared.telemetry.tracing import Tracing


_log = get_logger(__name__)

UNKNOWN_TYPE = "unknown_type"
# So that versions may run side by side; an unknown command is dead-lettered.
_SKIPS_UNKNOWN = ("events", "replies", "state", "dead_letters")
_POLL_TIMEOUT_MS = 1_000
READ_AT_ONCE_S = 0.02
"""Reading keeps the event loop for no longer, or for one message: heartbeats and probes run on
it."""


class GroupConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads the topics of one route in chunks; the next chunk starts when this one is committed."""

    def __init__(
        self,
        route: Route,
        runner: ChunkRunner,
        connection: KafkaConnection,
        tracing: Tracing,
        *,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """`on_fatal` ends the process: an error that leaves a chunk is a bug of the pipeline."""
        self.route = route
        self.offsets = Offsets(route.group, self.consumer)
        self.joined = False
        self._readers = route.readers or {topic: reader_of(TOPICS[topic]) for topic in route.topics}
        self._runner = runner
        self._connection = connection
        self._tracing = tracing
        self._on_fatal = on_fatal
        self._busy = asyncio.Lock()
        self._stopping = False
        self._hurried = False
        self._in_hand: Records = ()
        self._subscriber: Any = None
        self._revoke_timeout_s = 5.0

    def subscribe(self, broker: KafkaBroker, settings: ServiceSettings) -> None:
        """Declare the subscriber on `broker`; it starts with it."""
        session_ms = int(settings.session_timeout_s * 1000)
        self._revoke_timeout_s = settings.session_timeout_s
        self._subscriber = broker.subscriber(
            *(self._connection.named(topic) for topic in self.route.topics),
            group_id=self._connection.named(self.route.group),
            group_instance_id=settings.instance_id,
            batch=True,
            max_records=settings.chunk_messages,
            batch_timeout_ms=_POLL_TIMEOUT_MS,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 3,
            rebalance_timeout_ms=max(session_ms, 10_000),
            fetch_max_wait_ms=500,
            listener=self,
            no_reply=True,
        )
        # the factory knows no other class; this one adds no slots
        self._subscriber.__class__ = PatientSubscriber
        self._subscriber.max_bytes = settings.chunk_bytes
        self._subscriber.take = self._handle
        self._subscriber(self._handle)  # it reads only where it has a handler

    def consumer(self) -> AIOKafkaConsumer | None:
        """The running consumer, None before the start and after the stop."""
        return self._subscriber.consumer if self._subscriber is not None else None

    def in_hand(self) -> dict[TopicPartition, int]:
        """The first offset of each partition in the chunk that is not committed yet."""
        first: dict[TopicPartition, int] = {}
        for record in self._in_hand:
            first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        return first

    async def finish(self) -> None:
        """Take no further chunk, and wait for the one in hand."""
        self._stopping = self._hurried = True
        async with self._busy:
            pass

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish the chunk in hand and commit it, before another instance reads on."""
        self.joined = False
        if not revoked:
            return
        self._hurried = True
        with contextlib.suppress(TimeoutError):
            # a chunk that waits for Postgres may outlast the session: its partitions go then,
            # and the inbox tells the two copies apart
            async with asyncio.timeout(self._revoke_timeout_s), self._busy:
                pass
        await self.offsets.flush()
        self.offsets.forget()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Reading goes on from the committed offsets."""
        self.joined = True
        self._hurried = self._stopping

    async def _handle(self, records: Records) -> None:
        if self._stopping:
            return
        async with self._busy:
            try:
                self._in_hand = records
                started = asyncio.get_running_loop().time()
                deliveries, refusals = await self._read(records)
                if self.route.pace is not None:
                    await self.route.pace(deliveries, lambda: self._hurried)
                if any(self._tracing.is_recorded(delivery.traceparent) for delivery in deliveries):
                    await self._run_traced(deliveries, refusals)
                elif deliveries or refusals:
                    await self._runner.run(deliveries, refusals)
                self.offsets.done(records)
                self._in_hand = ()
            except Exception as error:  # noqa: BLE001 - FastStream would swallow it and read on
                self._on_fatal(error)
                self._stopping = True
                return
            group = self.route.group
            metrics.CHUNK_SECONDS.labels(group).observe(asyncio.get_running_loop().time() - started)
            metrics.CHUNK_MESSAGES.labels(group).observe(len(records))
            metrics.PROGRESS.labels(group).set_to_current_time()

    async def _run_traced(
        self, deliveries: Sequence[Delivery], refusals: Sequence[Refusal]
    ) -> None:
        parents = [
            (
                delivery.traceparent,
                f"process {delivery.message.type}",
                {
                    "messaging.system": "kafka",
                    "messaging.destination.name": delivery.received.topic,
                    "messaging.consumer.group.name": self.route.group,
                    "messaging.message.id": delivery.message_id,
                },
            )
            for delivery in deliveries
        ]
        with self._tracing.spans(parents) as contexts:
            continued = [
                delivery
                if context == delivery.traceparent
                else delivery._replace(traceparent=context)
                for delivery, context in zip(deliveries, contexts, strict=True)
            ]
            await self._runner.run(continued, refusals)

    async def _read(self, records: Records) -> tuple[list[Delivery], list[Refusal]]:
        """Validate each record on its own: one that can't be read never fails the others."""
        deliveries: list[Delivery] = []
        refusals: list[Refusal] = []
        now_s = asyncio.get_running_loop().time
        switch_s = now_s() + READ_AT_ONCE_S
        for record in records:
            if now_s() > switch_s:
                await asyncio.sleep(0)
                switch_s = now_s() + READ_AT_ONCE_S
            topic = self._connection.plain(record.topic)
            received = Received(
                topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                self._tracing.context_of(_traceparent(record.headers)),
            )
            message = self._readers[topic].read_record(record.value, record.headers)
            if isinstance(message, Unreadable):
                if message.reason == UNKNOWN_TYPE and TOPICS[topic].kind in _SKIPS_UNKNOWN:
                    metrics.SKIPPED.labels(self.route.group).inc()
                    continue
                refusals.append(
                    Refusal(received, message.reason, message.detail, unreadable=message)
                )
                continue
            key = TOPICS[topic].key
            if key and received.key != getattr(message, key).encode():
                metrics.KEY_MISMATCHES.labels(self.route.group).inc()
            deliveries.append(
                Delivery(
                    message,
                    message_id(message),
                    fingerprint(message),
                    received,
                    received.traceparent,
                )
            )
        return deliveries, refusals


def _traceparent(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    for name, value in headers:
        if name == "traceparent":
            return value
    return None
