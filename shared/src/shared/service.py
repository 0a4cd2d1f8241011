"""The life of a service: start, run until SIGTERM, stop without losing or repeating more than it
must.

Stopping goes in this order: take no further chunk, finish the one in hand, let what is under way
outside of chunks be settled, let the relay publish and mark, commit the offsets, and only then
leave the broker. What takes longer than the grace period is left to the next start, which finds
everything in Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import asyncpg
import uvloop
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from shared import backoff
from shared.admin import admin_app
from shared.background import Loop, repeat
from shared.contracts.topics import TOPICS
from shared.database.pool import connect_pool
from shared.kafka.connection import KafkaConnection
from shared.kafka.publisher import Publisher
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.consumer import GroupConsumer
from shared.pipeline.relay import Relay
from shared.pipeline.sweeper import InboxJanitor, Janitor, Sweeper
from shared.pipeline.watchdog import Watchdog
from shared.pipeline.work import Work
from shared.preconditions import StartError, wait_until_fit
from shared.serving import HttpServer
from shared.telemetry.logs import configure_logs, get_logger
from shared.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from aiokafka import AIOKafkaConsumer
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

    from shared.admin import Check
    from shared.database.pool import Pool
    from shared.pipeline.messages import Route
    from shared.settings import ServiceSettings


class Closing(Protocol):
    """Something with a connection of its own."""

    async def close(self) -> None:
        """Let go of it."""


_Closing = TypeVar("_Closing", bound=Closing)
_log = get_logger(__name__)

SWEEP_INTERVAL_S = 1.0
JANITOR_INTERVAL_S = 1.0
INBOX_JANITOR_INTERVAL_S = 60.0
WATCHDOG_INTERVAL_S = 5.0
EXIT_MISCONFIGURED = 3
GC_THRESHOLDS = (50_000, 20, 50)


class Service:
    """The parts that every service is made of, wired together."""

    def __init__(
        self, name: str, settings: ServiceSettings, *, package: str, routes: Sequence[Route]
    ) -> None:
        """`name` is the service's, `package` where its migrations lie."""
        self.name = name
        self.settings = settings
        self.kafka = KafkaConnection.of(settings)
        self.tracing = Tracing(name, settings.instance_id, sample_ratio=settings.trace_sample_ratio)
        self.pool: Pool = connect_pool(
            settings.database_url.get_secret_value(),
            name=settings.instance_id,
            max_connections=settings.database_connections,
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
        self._loops = [
            Loop("sweeper", sweeper.run_once, SWEEP_INTERVAL_S),
            Loop("janitor", janitor.run_once, JANITOR_INTERVAL_S),
            Loop("inbox janitor", inbox_janitor.run_once, INBOX_JANITOR_INTERVAL_S),
            *(
                Loop(f"watchdog {group}", watchdog.run_once, WATCHDOG_INTERVAL_S)
                for group, watchdog in self._watchdogs.items()
            ),
        ]
        self._checks: dict[str, Check] = {"postgres": self._postgres, "kafka": self._kafka}
        self._admin_routes: list[BaseRoute] = []
        self._servers: list[HttpServer] = []
        self._finishing: list[Callable[[], Awaitable[None]]] = []
        self._closing: list[Closing] = [self._publisher]
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._started = False
        self._probe: asyncpg.Connection[asyncpg.Record] | None = None

    def consumer(self, group: str) -> AIOKafkaConsumer | None:
        """The running consumer of a group, None while there is none."""
        return next(each.consumer() for each in self._consumers if each.route.group == group)

    def add_loop(self, loop: Loop) -> None:
        """Run `loop` in the background from the start on."""
        self._loops.append(loop)

    def add_check(self, name: str, check: Check) -> None:
        """Make readiness depend on `check`."""
        self._checks[name] = check

    def add_admin_routes(self, routes: Sequence[BaseRoute]) -> None:
        """Serve `routes` on the admin port as well."""
        self._admin_routes.extend(routes)

    def add_server(self, name: str, app: Starlette, host: str, port: int) -> None:
        """Serve `app` on a port of its own, beside the admin port."""
        self._servers.append(HttpServer(app, host, port, name=name))

    def finishing(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Wait for `finish` when the service stops, for a third of the grace period at most: what
        is under way then is settled, and no loop has ended yet."""
        self._finishing.append(finish)

    def closing(self, part: _Closing) -> _Closing:
        """Close `part` when the service stops."""
        self._closing.append(part)
        return part

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises `StartError` where it can't start as things are."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        serving_stopped = asyncio.Event()
        app = admin_app(self._checks, self._admin_routes)
        admin = HttpServer(app, self.settings.admin_host, self.settings.admin_port)
        serving = [
            asyncio.create_task(server.serve_until(serving_stopped))
            for server in (admin, *self._servers)
        ]
        for task in serving:
            task.add_done_callback(self._on_task_done)
        broker = self._broker()
        try:
            if await self._unless_stopped(self._wait_until_fit()):
                self._spawn("relay", self.relay.publish_forever())
                self._spawn("marks", self.relay.mark_forever())
                for each in self._loops:
                    self._spawn(each.name, repeat(each, self.pool))
                if await self._unless_stopped(self._start(broker)):
                    _log.info("started")
                    await self._stop.wait()
        finally:
            await self._shut_down(broker)
            serving_stopped.set()
            await asyncio.gather(*serving, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    def _broker(self) -> KafkaBroker:
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

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`; False where the service was told to stop before it was done."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return False
        task.result()
        return True

    async def _wait_until_fit(self) -> None:
        await self.pool
        topics = {topic for each in self._consumers for topic in each.route.topics}
        # One that can't be written to would show only in an outbox that grows.
        topics.update(topic.name for topic in TOPICS.values() if topic.writer == self.name)
        await wait_until_fit(self.name, self._package, self.pool, self.kafka, sorted(topics))

    async def _start(self, broker: KafkaBroker) -> None:
        attempt = 0
        while True:
            try:
                await broker.start()
            except (OSError, KafkaError) as error:
                attempt += 1
                _log.warning("waiting_for_kafka", error=str(error)[:200], attempt=attempt)
                await broker.stop()
                await asyncio.sleep(backoff.delay_s(attempt))
            else:
                for consumer in self._consumers:
                    self._spawn("offsets", consumer.offsets.flush_forever())
                self._started = True
                # What is alive now stays: the collector need not look at it again, and what a
                # chunk makes is freed by reference counts.
                gc.collect()
                gc.freeze()
                gc.set_threshold(*GC_THRESHOLDS)
                return

    async def _shut_down(self, broker: KafkaBroker) -> None:
        # aiokafka's stop() can hang: past the grace period the process ends as it is
        overdue = asyncio.get_running_loop().call_later(self.settings.stop_grace_s, _give_up)
        await asyncio.gather(*(consumer.finish() for consumer in self._consumers))
        if self._started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.stop_grace_s / 3):
                    await asyncio.gather(*(finish() for finish in self._finishing))
            try:
                await asyncio.wait_for(self.relay.drain(), self.settings.stop_grace_s / 3)
            except TimeoutError:
                _log.warning("left_to_the_sweeper", chunks=len(self.relay.in_memory()))
            for consumer in self._consumers:
                await consumer.offsets.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await broker.stop()
        for part in self._closing:
            await part.close()
        if self._probe is not None:
            self._probe.terminate()
        await self.pool.close()
        self.tracing.shutdown()
        overdue.cancel()
        _log.info("stopped")

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_task_done)
        self._tasks.append(task)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the process: it may not go on after an error that nothing handled."""
        _log.critical("failed", error=type(error).__name__, exc_info=error)
        self._failure = error
        self._stop.set()

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


def run(compose: Callable[[], Service], settings: ServiceSettings) -> None:
    """Run the service that `compose` makes, inside a new event loop, and end the process."""
    service_name = settings.instance_id.rpartition("-")[0] or settings.instance_id
    configure_logs(settings.log_level, service=service_name, instance=settings.instance_id)

    async def main() -> None:
        await compose().run()

    try:
        uvloop.run(main())
    except StartError as error:
        sys.stderr.write(f"{settings.instance_id} can't start: {error}\n")
        sys.exit(EXIT_MISCONFIGURED)


def _give_up() -> None:
    _log.error("stopping_took_too_long")
    os._exit(1)
