"""Kafka: the address that the environment gives, else Apache Kafka in KRaft mode, run by Java."""

import asyncio
import contextlib
import logging
import os
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from local_stack.errors import PartError, Unhealthy
from local_stack.folder import StateFolder
from local_stack.kafka_jars import fetch_jars, java_program, missing_tools
from local_stack.layout import PREFIX_VARIABLE, Options
from local_stack.part import Part, Tool
from local_stack.ports import HOST, PortBook

log = logging.getLogger("local_stack")

ADDRESS_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
IDEMPOTENCE_VARIABLE = "KAFKA_IDEMPOTENCE"

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": (
        "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
    ),
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # Dead letters carry the whole refused record and their own headers: 2 MiB, and room.
    "message.max.bytes": str(2 * 1024 * 1024 + 128 * 1024),
    "replica.fetch.max.bytes": str(2 * 1024 * 1024 + 128 * 1024),
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "default.replication.factor": "1",
    # Two cores: a request that goes from thread to thread wakes each of them.
    "num.network.threads": "1",
    "num.io.threads": "2",
    # Batches of few messages: a fetch looks for its own from the nearest entry of the index on, and
    # reads the head of each on its way from the disk.
    "log.index.interval.bytes": "512",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    # A broker that was killed may not register again before its session ends: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # One broker has nobody to hand its partitions to.
    "controlled.shutdown.enable": "true",
}

JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+UseTransparentHugePages",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)

_TIMEOUT_S = 5.0
_SESSIONS_END_WITHIN_S = 10.0
"""A service that ended without a word is a member of its group for 6 s more."""
_GROUPS_POLL_S = 0.5


class Kafka(Part):
    """One broker that is its own controller.

    With `proxy_port` there is a second listener, PROXIED: who comes through a proxy on that port
    is told the proxy's address for everything after, so that faults can be put between.
    """

    stop_grace_s = 6.0

    def __init__(self, folder: StateFolder, ports: PortBook, proxy_port: int | None) -> None:
        super().__init__("kafka", folder, ports)
        self._proxied = proxy_port is not None
        self._proxy_port = proxy_port or 0
        self._class_path = ""
        self._port = 0
        self._proxied_port = 0
        self._prober = KafkaProber()

    @property
    def port_names(self) -> tuple[str, ...]:
        return ("kafka", "kafka-controller", "kafka-proxied")

    async def prepare(self) -> None:
        if not self._class_path:
            self._class_path = f"{await self._jars()}/*"
        self._write_configuration()
        data = self.folder / "data"
        if not (data / "meta.properties").exists():
            await Tool(self.name, self.state_folder, self.folder).run(
                [
                    *self._java(),
                    "kafka.tools.StorageTool",
                    "format",
                    "--ignore-formatted",
                    f"--cluster-id={_new_cluster_id()}",
                    f"--config={self.folder / 'server.properties'}",
                ]
            )

    async def _jars(self) -> Path:
        lack = missing_tools()
        if lack:
            raise PartError(
                f"Kafka needs Java 17 or newer and Maven, and {lack}. Install them, or name a "
                f"broker: {ADDRESS_VARIABLE}=host:port"
            )
        return await fetch_jars(self.state_folder)

    def _write_configuration(self) -> None:
        self._port = self.ports.claim("kafka")
        controller = self.ports.claim("kafka-controller")
        listeners = [f"PLAINTEXT://{HOST}:{self._port}"]
        advertised = list(listeners)
        if self._proxied:
            self._proxied_port = self.ports.claim("kafka-proxied")
            self._proxy_port = self._proxy_port or self.ports.claim("kafka-proxy")
            listeners.append(f"PROXIED://{HOST}:{self._proxied_port}")
            advertised.append(f"PROXIED://{HOST}:{self._proxy_port}")
        settings = {
            **SETTINGS,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": ",".join([*listeners, f"CONTROLLER://{HOST}:{controller}"]),
            "advertised.listeners": ",".join(advertised),
            "log.dirs": str(self.folder / "data"),
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.folder / "server.properties").write_text("".join(lines))

    def _java(self) -> tuple[str, ...]:
        return (java_program(), *JVM, "-cp", self._class_path)

    def command(self) -> Sequence[str]:
        return (*self._java(), "kafka.Kafka", str(self.folder / "server.properties"))

    async def probe(self) -> None:
        await self._prober.probe(f"{HOST}:{self._port}")

    def addresses(self) -> Mapping[str, str]:
        found = {ADDRESS_VARIABLE: f"{HOST}:{self._port}"}
        if self._proxied:
            found["KAFKA_PROXIED_BOOTSTRAP_SERVERS"] = f"{HOST}:{self._proxy_port}"
            found["KAFKA_PROXIED_LISTENER"] = f"{HOST}:{self._proxied_port}"
        return found

    async def close(self) -> None:
        await self._prober.close()


class ExternalKafka(Part):
    """The broker that the environment names. It is asked how it is, and else left alone.

    Two stacks on the same topics and groups would take each other's messages, and neither's
    invariants hold: a stack does not start where another one is at work.
    """

    external = True
    start_timeout_s = 15.0

    def __init__(self, folder: StateFolder, ports: PortBook, options: Options) -> None:
        super().__init__("kafka", folder, ports)
        self._address = os.environ[ADDRESS_VARIABLE]
        self._groups = [f"{options.topic_prefix}{service.name}" for service in options.services]
        self._prober = KafkaProber()
        self.absence = (
            f"{ADDRESS_VARIABLE}={self._address} is set, and nobody answers there; "
            "unset it to start a broker here"
        )

    def command(self) -> Sequence[str]:
        raise NotImplementedError("an external broker has no command")

    async def probe(self) -> None:
        await self._prober.probe(self._address)

    async def before_first_use(self) -> None:
        """Raises PartError where the groups of the stack's services have members for long.

        None of them is this stack's own, whose services have not been started. Those that an
        earlier start of it left behind are gone once their sessions have ended.
        """
        deadline = time.monotonic() + _SESSIONS_END_WITHIN_S
        while busy := await self._groups_at_work():
            if time.monotonic() > deadline:
                raise PartError(
                    f"another stack works on that broker: its group {busy[0]} has members. Unset "
                    f"{ADDRESS_VARIABLE} to start a broker here, or set {PREFIX_VARIABLE}"
                )
            await asyncio.sleep(_GROUPS_POLL_S)

    async def _groups_at_work(self) -> list[str]:
        """Those of the services' groups that have members; none where the broker does not tell."""
        if not self._groups:
            return []
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._address,
            client_id="local-stack",
            request_timeout_ms=int(_TIMEOUT_S * 1000),
            **_security(),
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await client.start()
                # One at a time: of several in one answer aiokafka can't read the second.
                answers = [
                    answer
                    for group in self._groups
                    for answer in await client.describe_consumer_groups([group])
                ]
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("whether another stack works on the broker is unknown: %r", error)
            return []
        finally:
            await client.close()
        return [
            name for answer in answers for _, name, _, _, _, members, *_ in answer.groups if members
        ]

    def addresses(self) -> Mapping[str, str]:
        found = {ADDRESS_VARIABLE: self._address}
        if os.environ.get(IDEMPOTENCE_VARIABLE):
            found[IDEMPOTENCE_VARIABLE] = os.environ[IDEMPOTENCE_VARIABLE]
        return found

    async def close(self) -> None:
        await self._prober.close()


class KafkaProber:
    """Asks a cluster for its metadata over a connection that is kept between two questions."""

    def __init__(self) -> None:
        self._client: AIOKafkaClient | None = None

    async def probe(self, address: str) -> None:
        """Raises Unhealthy where no broker is there or none answers in time."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._client is None:
                    client = AIOKafkaClient(
                        bootstrap_servers=address,
                        client_id="local-stack",
                        request_timeout_ms=int(_TIMEOUT_S * 1000),
                        **_security(),
                    )
                    self._client = client
                    await client.bootstrap()
                metadata = await self._client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError) as error:
            await self.close()
            raise Unhealthy(f"{type(error).__name__}: {error}") from error
        if not metadata.brokers():
            await self.close()
            raise Unhealthy("its metadata names no broker")

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaError, TimeoutError, OSError):
                async with asyncio.timeout(_TIMEOUT_S):
                    await client.close()


def told_of_outside_broker(topic_prefix: str) -> str:
    """What people are told where the environment names a broker."""
    topics = f"topics {topic_prefix}*" if topic_prefix else "topics of no prefix"
    return f"using the broker of {ADDRESS_VARIABLE}={os.environ[ADDRESS_VARIABLE]}, with {topics}"


def _security() -> dict[str, str]:
    """The settings with which an external broker is reached, from the environment."""
    names = {
        "KAFKA_SECURITY_PROTOCOL": "security_protocol",
        "KAFKA_SASL_MECHANISM": "sasl_mechanism",
        "KAFKA_SASL_USERNAME": "sasl_plain_username",
        "KAFKA_SASL_PASSWORD": "sasl_plain_password",
    }
    return {key: os.environ[name] for name, key in names.items() if os.environ.get(name)}


def _new_cluster_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
