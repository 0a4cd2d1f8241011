"""A service with a schema: its consumers, its outbox, and how it stops without losing or repeating
more than it must.

Stopping goes in this order: take no further chunk, finish the one in hand, let what is under way
outside of chunks be settled, let the relay publish and mark, commit the offsets, and only then
leave the broker. What takes longer than the grace period is left to the next start, which finds
everything in Postgres.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from shared import backoff
from shared.background import Loop
from shared.contracts.topics import TOPICS
from shared.database import faults
from shared.database.pool import connect_pool
from shared.kafka.connection import KafkaConnection
from shared.kafka.publisher import Publisher
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.consumer import GroupConsumer
from shared.pipeline.relay import Relay
from shared.pipeline.sweeper import InboxJanitor, Janitor, Sweeper
from shared.pipeline.watchdog import Watchdog
from shared.pipeline.work import Work
from shared.preconditions import wait_until_fit
from shared.process import Process
from shared.telemetry.logs import get_logger
from shared.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaConsumer

    from shared.database.pool import Pool
    from shared.pipeline.messages import Route
    from shared.settings import ServiceSettings

_log = get_logger(__name__)

SWEEP_INTERVAL_S = 1.0
JANITOR_INTERVAL_S = 1.0
INBOX_JANITOR_INTERVAL_S = 60.0
WATCHDOG_INTERVAL_S = 5.0


class Service(Process):
    """A process that reads topics into its schema, and publishes what it decided."""

    def __init__(
        self, name: str, settings: ServiceSettings, *, package: str, routes: Sequence[Route]
    ) -> None:
        """`name` is the service's, `package` where its migrations lie."""
        super().__init__(name, settings)
        self.settings = settings
        self.kafka = KafkaConnection.of(settings)
        self.tracing = Tracing(name, settings.instance_id, sample_ratio=settings.trace_sample_ratio)
        self.pool: Pool = connect_pool(
            settings.database_url.get_secret_value(),
            name=settings.instance_id,
            max_connections=settings.database_connections,
            acquire_timeout_s=settings.database_acquire_timeout_s,
        )
        self._package = package
        self._publisher = Publisher(
            self.kafka, settings.instance_id, timeout_s=settings.publish_timeout_s
        )
        self.relay = Relay(
            settings.instance_id,
            name,
            self.pool,
            self._publisher,
            memory_messages=settings.relay_memory_messages,
        )
        self.work = Work(self.pool, self.relay, lease_s=settings.outbox_lease_s)
        self._consumers = [
            GroupConsumer(
                route,
                ChunkRunner(route, self.pool, self.relay, lease_s=settings.outbox_lease_s),
                self.kafka,
                self.tracing,
                on_fatal=self._fail,
            )
            for route in routes
        ]
        self._watchdogs = {
            consumer.route.group: Watchdog(consumer, stalled_after_s=settings.stalled_after_s)
            for consumer in self._consumers
        }
        sweeper = Sweeper(self.pool, self.relay, lease_s=settings.outbox_lease_s)
        janitor = Janitor(self.pool, keep_public_s=settings.keep_public_s)
        inbox_janitor = InboxJanitor(self.pool, keep_inbox_s=settings.keep_inbox_s)
        self._loops += [
            Loop("sweeper", sweeper.run_once, SWEEP_INTERVAL_S),
            Loop("janitor", janitor.run_once, JANITOR_INTERVAL_S),
            Loop("inbox janitor", inbox_janitor.run_once, INBOX_JANITOR_INTERVAL_S),
            *(
                Loop(f"watchdog {group}", watchdog.run_once, WATCHDOG_INTERVAL_S)
                for group, watchdog in self._watchdogs.items()
            ),
        ]
        self._checks |= {"postgres": self._postgres, "kafka": self._kafka}
        self._closing.append(self._publisher)
        self._broker = self._subscribed()
        self._started = False
        self._probe: asyncpg.Connection[asyncpg.Record] | None = None

    def consumer(self, group: str) -> AIOKafkaConsumer | None:
        """The running consumer of a group, None while there is none."""
        return next(each.consumer() for each in self._consumers if each.route.group == group)

    def _subscribed(self) -> KafkaBroker:
        broker = KafkaBroker(
            self.settings.kafka_bootstrap_servers,
            security=self.kafka.faststream_security(),
            client_id=self.settings.instance_id,
            apply_types=False,
            allow_auto_create_topics=False,
            consumer_only=True,
            graceful_timeout=self.settings.stop_grace_s,
            logger=None,
        )
        for consumer in self._consumers:
            consumer.subscribe(broker, self.settings)
        return broker

    async def _prepare(self) -> None:
        await self.pool
        topics = {topic for each in self._consumers for topic in each.route.topics}
        # One that can't be written to would show only in an outbox that grows.
        topics.update(topic.name for topic in TOPICS.values() if topic.writer == self.name)
        await wait_until_fit(self.name, self._package, self.pool, self.kafka, sorted(topics))

    async def _begin(self) -> None:
        self._spawn("relay", self.relay.publish_forever())
        self._spawn("marks", self.relay.mark_forever())
        attempt = 0
        while True:
            try:
                await self._broker.start()
            except (OSError, KafkaError) as error:
                attempt += 1
                _log.warning("waiting_for_kafka", error=str(error)[:200], attempt=attempt)
                await self._broker.stop()
                await asyncio.sleep(backoff.delay_s(attempt))
            else:
                for consumer in self._consumers:
                    self._spawn("offsets", consumer.offsets.flush_forever())
                self._started = True
                return

    async def _finish(self) -> None:
        await asyncio.gather(*(consumer.finish() for consumer in self._consumers))
        if not self._started:
            return
        await self._finish_parts()
        try:
            await asyncio.wait_for(self.relay.drain(), self.settings.stop_grace_s / 3)
        except TimeoutError:
            _log.warning("left_to_the_sweeper", chunks=len(self.relay.in_memory()))
        for consumer in self._consumers:
            await consumer.offsets.flush()

    async def _release(self) -> None:
        await self._broker.stop()
        await super()._release()
        if self._probe is not None:
            self._probe.terminate()
        await self.pool.close()
        self.tracing.shutdown()

    async def _failed_pass(self, error: Exception) -> None:
        if faults.leaves_pool_stale(error):
            await self.pool.expire_connections()

    async def _postgres(self) -> str | None:
        # A connection of its own: a pool that is busy is no reason to be taken out of service.
        if self._probe is None or self._probe.is_closed():
            self._probe = await asyncpg.connect(
                self.settings.database_url.get_secret_value(), timeout=2.0
            )
        try:
            read_only = await self._probe.fetchval("SHOW transaction_read_only", timeout=2.0)
        except BaseException:
            self._probe.terminate()
            raise
        return "the server is read-only" if read_only == "on" else None

    async def _kafka(self) -> str | None:
        problems = [
            f"{group}: {watchdog.problem}"
            for group, watchdog in self._watchdogs.items()
            if watchdog.problem
        ]
        return "; ".join(problems) or None
