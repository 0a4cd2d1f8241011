"""Fixtures of every test of the project.

Nothing starts until a test asks for it: unit tests need no infrastructure. What a test can have:

    database   a database of its own: `database.dsn("stock")`, every schema migrated
    topics     topics of its own: `await topics.create(service="stock")`, publish, read, wait
    valkey     a database number of its own: `valkey.url`, `valkey.client`
    service    starts instances against the three: `stock = await service("stock")`
    stack      the infrastructure, to kill and hold its parts; well again before the next test
    kafka_proxy, postgres_proxy, valkey_proxy   a proxy with toxics before each

Addresses given by the environment (KAFKA_BOOTSTRAP_SERVERS and so on) win over what the local
stack would start. TEST_STATE_DIR names another state folder than .state/test.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

# Folders of the same names lie beside this file: import the packages before pytest, on its way to
# their tests, takes the folders for them.
import orderctl  # noqa: F401
import shared  # noqa: F401
from local_stack import SERVICES, Environment, Stack
from shared.kafka.connection import KafkaConnection
from shared.testing.databases import Database, Server, Template
from shared.testing.deployment import Deployment
from shared.testing.kafka import Topics
from shared.testing.processes import Instance
from shared.testing.proxy import Proxy
from shared.testing.valkey import Valkey, claimed_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

ROOT = Path(__file__).parent
STATE = Path(os.environ.get("TEST_STATE_DIR", ROOT / ".state" / "test"))
LOG_LINES_SHOWN = 60

_instances = pytest.StashKey[list[Instance]]()


class StartService(Protocol):
    """The fixture `service`."""

    async def __call__(
        self,
        name: str,
        number: int = 0,
        *,
        ready: bool = True,
        crash_point: str | None = None,
        **environment: str,
    ) -> Instance:
        """Starts `<name>-<number>` and returns it once it is ready, or at once.

        `environment` holds further settings, or others than the fixtures': a DATABASE_URL through a
        proxy, CHUNK_MESSAGES. All settings but `crash_point` last over restarts.
        """
        ...


@pytest.fixture(scope="session")
def infrastructure() -> Iterator[Stack]:
    """Postgres, Valkey, Kafka and the payment gateway: started once, or used where they run."""
    stack = Stack(STATE, kafka_proxy_port=0)
    started_by_tests = STATE.with_suffix(".started")
    STATE.parent.mkdir(parents=True, exist_ok=True)
    users = os.open(STATE.with_suffix(".users"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(users, fcntl.LOCK_SH)
        if not stack.running():
            started_by_tests.touch()
        stack.up()
        yield stack
        # Several runs may share the stack; who leaves last stops what a run has started.
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if started_by_tests.exists():
            started_by_tests.unlink()
            stack.down()
    finally:
        os.close(users)


@pytest.fixture(scope="session")
def environment(infrastructure: Stack) -> Environment:
    """The addresses of the infrastructure, by the names of the settings that they are for."""
    return infrastructure.env()


@pytest.fixture
def stack(infrastructure: Stack) -> Iterator[Stack]:
    """The infrastructure, for tests that break it: whole again before the next test begins."""
    yield infrastructure
    for name in infrastructure.parts():
        if infrastructure.folder.hold_file(name).exists():
            infrastructure.release(name)
    infrastructure.wait_all_healthy()


@pytest.fixture(scope="session")
async def template(environment: Environment) -> Template:
    """The migrated database that every test's is copied from."""
    return await Template.prepare(
        Server(environment.admin_database_url, environment["ROLE_PASSWORD"])
    )


@pytest.fixture
async def database(template: Template) -> AsyncIterator[Database]:
    """A database of the test's own: every schema migrated, every table empty."""
    async with template.clone() as database:
        yield database


@pytest.fixture
async def topics(environment: Environment) -> AsyncIterator[Topics]:
    """Topics and groups of the test's own. None exists until the test creates it."""
    topics = Topics(
        KafkaConnection(
            environment.kafka_bootstrap_servers,
            topic_prefix=f"t{secrets.token_hex(4)}.",
            **_kafka_security(),
        )
    )
    yield topics
    await topics.close()
    await topics.delete()


@pytest.fixture
async def valkey(environment: Environment) -> AsyncIterator[Valkey]:
    """A database number of the test's own, flushed."""
    async with claimed_database(environment.redis_url) as valkey:
        yield valkey


@pytest.fixture
async def service(
    request: pytest.FixtureRequest,
    database: Database,
    topics: Topics,
    valkey: Valkey,
    tmp_path: Path,
) -> AsyncIterator[StartService]:
    """Starts instances of services; kills them after the test, and shows their logs if it fails."""
    instances = request.node.stash.setdefault(_instances, [])
    known = {service.name: service for service in SERVICES}

    async def start(
        name: str,
        number: int = 0,
        *,
        ready: bool = True,
        crash_point: str | None = None,
        **environment: str,
    ) -> Instance:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": topics.connection.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": topics.prefix,
            "DATABASE_URL": database.dsn(known[name].role),
            "REDIS_URL": valkey.url,
        }
        settings |= {key: value for key, value in os.environ.items() if _is_security(key)}
        instance = Instance(
            known[name].module, f"{name}-{number}", settings | environment, folder=tmp_path
        )
        instances.append(instance)
        if ready:
            await instance.start(crash_point=crash_point)
        else:
            instance.spawn(crash_point=crash_point)
        return instance

    yield start
    # The fixtures that the instances use go away next; an orderly end is a test of its own.
    await asyncio.gather(*(instance.discard() for instance in instances))


@pytest.fixture
async def kafka_proxy(environment: Environment) -> AsyncIterator[Proxy]:
    """A proxy before Kafka; clients that bootstrap from `kafka_proxy.address` stay behind it."""
    if "KAFKA_PROXIED_LISTENER" not in environment:
        pytest.skip("the broker is the environment's: it does not advertise a proxy's address")
    host, _, port = environment["KAFKA_PROXIED_LISTENER"].partition(":")
    listen_port = int(environment["KAFKA_PROXIED_BOOTSTRAP_SERVERS"].partition(":")[2])
    async with Proxy.running(host, int(port), listen_port=listen_port) as proxy:
        yield proxy


@pytest.fixture
async def postgres_proxy(environment: Environment) -> AsyncIterator[Proxy]:
    """A proxy before Postgres: `postgres_proxy.through(database.dsn("stock"))`."""
    async with Proxy.before(environment.database_url) as proxy:
        yield proxy


@pytest.fixture
async def valkey_proxy(environment: Environment) -> AsyncIterator[Proxy]:
    """A proxy before Valkey: `valkey_proxy.through(valkey.url)`."""
    async with Proxy.before(environment.redis_url) as proxy:
        yield proxy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Puts the end of each instance's log beside the failure of its test."""
    report = yield
    if report.when == "call" and report.failed:
        for fixture in getattr(item, "funcargs", {}).values():
            if isinstance(fixture, Deployment):
                fixture.show_logs(report)
        for instance in item.stash.get(_instances, []):
            lines = instance.log().splitlines()[-LOG_LINES_SHOWN:]
            state = "running" if instance.is_running else f"exit code {instance.exit_code}"
            report.sections.append((f"{instance.instance_id}, {state}", "\n".join(lines)))
    return report


def _is_security(name: str) -> bool:
    return name.startswith(("KAFKA_SECURITY_", "KAFKA_SASL_"))


def _kafka_security() -> dict[str, Any]:
    fields = ("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password")
    found = {field: os.environ.get(f"KAFKA_{field.upper()}") for field in fields}
    return {field: value for field, value in found.items() if value}
