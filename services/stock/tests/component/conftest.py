"""Whole instances of stock between a broker and a database of a module's own.

A process takes seconds to start, so a module's tests share what they can and tell themselves apart
by their ids.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from shared.audit import Report, Source, audit
from shared.audit.topics import check_consumed, check_lag
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.stock import StockLevel
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.testing.builders import new_id, put_product
from shared.testing.kafka import Topics
from shared.testing.processes import Instance
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable
    from pathlib import Path

    from local_stack import Environment
    from shared.contracts.base import Message
    from shared.testing.databases import Database, Template
    from shared.testing.kafka import Record

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"
ADMIN = "stock.admin.v1"
EVENTS = "stock.events.v1"
LEVELS = "stock.levels.v1"
LETTERS = "stock.dlq.v1"
ADMIN_LETTERS = "stock-requests.dlq.v1"

AT_REST = """
SELECT count(*) FROM outbox WHERE published_at IS NULL
"""


class Shop:
    """A database, topics, and the instances of stock between them."""

    def __init__(
        self, database: Database, topics: Topics, environment: Environment, folder: Path
    ) -> None:
        self.database = database
        self.topics = topics
        self.instances: dict[int, Instance] = {}
        self._environment = environment
        self._folder = folder

    def instance(self, number: int = 0, **environment: str) -> Instance:
        """The instance `stock-<number>`, not started; `environment` counts where it is new."""
        if number not in self.instances:
            settings = {
                "KAFKA_BOOTSTRAP_SERVERS": self._environment.kafka_bootstrap_servers,
                "KAFKA_TOPIC_PREFIX": self.topics.prefix,
                "DATABASE_URL": self.database.dsn("stock"),
                "REDIS_URL": self._environment.redis_url,
            }
            self.instances[number] = Instance(
                "stock.main", f"stock-{number}", settings | environment, folder=self._folder
            )
        return self.instances[number]

    async def start(self, *numbers: int, **environment: str) -> None:
        """Start these instances, all at once, unless they run."""
        asked = [self.instance(number, **environment) for number in numbers]
        idle = [instance for instance in asked if not instance.is_running]
        await asyncio.gather(*(instance.start(ready_within_s=60) for instance in idle))

    async def publish(self, *commands: Message) -> None:
        await self.topics.publish(COMMANDS, commands)

    async def put(self, quantity: int = 100, *, count: int = 1, **fields: Any) -> list[str]:
        """New products; returns their ids once stock has them."""
        commands = [put_product(new_id("P"), quantity=quantity, **fields) for _ in range(count)]
        await self.topics.publish(ADMIN, commands)
        await self.said(EVENTS, {command.command_id for command in commands})
        return [command.product_id for command in commands]

    async def said(
        self, topic: str, command_ids: Iterable[str], *, times: int = 1, within_s: float = 30.0
    ) -> dict[str, list[Message]]:
        """What was said of each command, once it was said at least so many times."""
        wanted = set(command_ids)
        found: dict[str, list[Message]] = {command_id: [] for command_id in wanted}

        async def missing() -> int:
            for messages in found.values():
                messages.clear()
            for record in await self.topics.read(topic):
                command_id = record.json.get("commandId")
                if command_id in wanted:
                    found[command_id].append(record.message)
            return sum(len(messages) < times for messages in found.values())

        await eventually(
            missing,
            within_s=within_s,
            describe=f"every one of {len(wanted)} commands has {times} answers on {topic}",
            accept=lambda count: count == 0,
        )
        return found

    async def verdicts(self, commands: Iterable[Message], **how: Any) -> list[Message]:
        """The one reply of each command: all that were said of it are equal."""
        ids = [command.command_id for command in commands]  # type: ignore[attr-defined]
        found = await self.said(REPLIES, ids, **how)
        for command_id, messages in found.items():
            assert all(message == messages[0] for message in messages), (command_id, messages)
        return [found[command_id][0] for command_id in ids]

    async def counters(self, product_id: str) -> tuple[int, ...]:
        """Available, reserved, sold, received."""
        async with self.database.connection("stock") as connection:
            row = await connection.fetchrow(
                "SELECT available, reserved, sold, received FROM product WHERE product_id = $1",
                product_id,
            )
        assert row is not None
        return tuple(row)

    @asynccontextmanager
    async def lock_held(self, product_id: str) -> AsyncIterator[None]:
        """The product's row is locked by somebody else, as long as it takes."""
        async with self.database.connection() as admin, admin.transaction():
            await admin.execute(
                "SELECT FROM stock.product WHERE product_id = $1 FOR UPDATE", product_id
            )
            yield

    async def waits_for_lock(self, number: int = 0) -> None:
        """Returns once a statement of this instance waits for a lock: it is in mid-chunk."""
        async with self.database.connection() as admin:
            await eventually(
                lambda: admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
                    " AND application_name = $2 AND wait_event_type = 'Lock'",
                    self.database.name,
                    f"stock-{number}",
                ),
                describe=f"stock-{number} waits for a lock",
            )

    async def rest(self, *, within_s: float = 60.0) -> None:
        """Wait until nothing lies before the groups, and nothing in the outbox."""
        await self.topics.wait_drained("stock", "stock-requests", within_s=within_s)
        async with self.database.connection("stock") as connection:
            await eventually(
                lambda: connection.fetchval(AT_REST),
                within_s=within_s,
                describe="the outbox is published",
                accept=lambda count: count == 0,
            )

    async def check(self, *, within_s: float = 60.0) -> None:
        """The system comes to rest, and all invariants hold, those of the topics among them."""
        await self.rest(within_s=within_s)
        report = await audit(self.database.operator_dsn, (Source("stock", "stock"),))
        async with self.database.connection("operator") as connection:
            checks = [
                check
                for group in ("stock", "stock-requests")
                for check in (
                    await check_lag(self.topics.connection, group),
                    await check_consumed(self.topics.connection, connection, group),
                )
            ]
        (report + Report(tuple(checks))).require()

    async def levels(self) -> dict[str, StockLevel]:
        """The last record of each product on the feed, as a compacted topic keeps it."""
        reader = reader_of(TOPICS[LEVELS])
        found: dict[str, StockLevel] = {}
        for record in await self.topics.read(LEVELS):
            level = reader.read(record.value)
            assert not isinstance(level, Unreadable), level
            assert isinstance(level, StockLevel)
            found[level.product_id] = level
        return found

    async def metric(self, name: str, *, number: int = 0, **labels: str) -> float:
        """A sample of an instance's metrics; 0 where it isn't there."""
        async with self.instance(number).admin() as admin:
            text = (await admin.get("/metrics")).text
        for line in text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(
                f'{key}="{label}"' in sample for key, label in labels.items()
            ):
                return float(value)
        return 0.0

    async def letter(self, topic: str, accept: Callable[[Record], bool]) -> Record:
        """The first dead letter that `accept` takes."""
        return (await self.topics.wait_for(topic, accept, within_s=20))[0]


@pytest.fixture(scope="module")
async def shop(
    template: Template, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """The module's own shop; no instance runs yet."""
    connection = KafkaConnection(
        environment.kafka_bootstrap_servers, topic_prefix=f"t{secrets.token_hex(4)}."
    )
    topics = Topics(connection)
    await topics.create(service="stock")
    async with template.clone() as database:
        shop = Shop(database, topics, environment, tmp_path_factory.mktemp("stock"))
        yield shop
        await asyncio.gather(*(instance.discard() for instance in shop.instances.values()))
    await topics.close()
    await topics.delete()


@pytest.fixture
async def running(shop: Shop) -> AsyncIterator[None]:
    """stock-0 runs, and the invariants hold after each test."""
    await shop.start(0)
    yield
    await shop.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Puts the end of each instance's log beside the failure of its test."""
    report = yield
    shop = item.funcargs.get("shop") if isinstance(item, pytest.Function) else None
    if report.when == "call" and report.failed and isinstance(shop, Shop):
        for instance in shop.instances.values():
            lines = instance.log().splitlines()[-40:]
            state = "running" if instance.is_running else f"exit code {instance.exit_code}"
            report.sections.append((f"{instance.instance_id}, {state}", "\n".join(lines)))
    return report
