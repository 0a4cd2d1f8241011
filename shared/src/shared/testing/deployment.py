"""Instances of one service between a broker, a database and Redis, to be started and killed at
will.

    async with Shop.deployed(template, environment, folder) as shop:
        await shop.start(0, 1)
        await shop.topics.publish(COMMANDS, commands)
        await shop.check()

A process takes seconds to start, so the tests of a module share a deployment and tell themselves
apart by their ids.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Self

from shared.audit import Report, Source, audit
from shared.audit.topics import check_consumed, check_lag
from shared.kafka.connection import KafkaConnection
from shared.testing.kafka import Topics
from shared.testing.processes import Instance
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    import pytest

    from shared.contracts.base import Message
    from shared.testing.databases import Database, Template
    from shared.testing.kafka import Record

UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
LOG_LINES_SHOWN = 40


class Deployment:
    """A database, topics, and the instances of a service between them."""

    service: ClassVar[str]
    """Its name is the module's, the role's, the schema's and the first group's."""
    groups: ClassVar[tuple[str, ...]]

    def __init__(
        self, database: Database, topics: Topics, environment: Mapping[str, str], folder: Path
    ) -> None:
        """`environment` holds the addresses; logs lie in `folder`."""
        self.database = database
        self.topics = topics
        self.instances: dict[int, Instance] = {}
        self._environment = environment
        self._folder = folder

    def instance(self, number: int = 0, **environment: str) -> Instance:
        """The instance `<service>-<number>`, not started; `environment` counts where it is new."""
        if number not in self.instances:
            settings = {
                "KAFKA_BOOTSTRAP_SERVERS": self.topics.connection.bootstrap_servers,
                "KAFKA_TOPIC_PREFIX": self.topics.prefix,
                "DATABASE_URL": self.database.dsn(self.service),
                "REDIS_URL": self._environment["REDIS_URL"],
            }
            self.instances[number] = Instance(
                f"{self.service}.main", f"{self.service}-{number}", settings | environment,
                folder=self._folder,
            )  # fmt: skip
        return self.instances[number]

    async def start(self, *numbers: int, **environment: str) -> None:
        """Start these instances, all at once, unless they run."""
        asked = [self.instance(number, **environment) for number in numbers]
        idle = [instance for instance in asked if not instance.is_running]
        await asyncio.gather(*(instance.start(ready_within_s=60) for instance in idle))

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

    async def answers(
        self, topic: str, commands: Iterable[Message], *, times: int = 1, within_s: float = 30.0
    ) -> list[Message]:
        """The one answer of each command: all that were said of it are equal."""
        ids = [command.command_id for command in commands]  # type: ignore[attr-defined]
        found = await self.said(topic, ids, times=times, within_s=within_s)
        for command_id, messages in found.items():
            assert all(message == messages[0] for message in messages), (command_id, messages)
        return [found[command_id][0] for command_id in ids]

    @asynccontextmanager
    async def rows_locked(self, table: str, column: str, *keys: str) -> AsyncIterator[None]:
        """These rows of the service's table are locked by somebody else, as long as it takes."""
        async with self.database.connection() as admin, admin.transaction():
            await admin.execute(
                f"SELECT FROM {self.service}.{table} WHERE {column} = ANY ($1)"
                f" ORDER BY {column} FOR UPDATE",
                keys,
            )
            yield

    async def waits_for_lock(self, number: int = 0) -> None:
        """Returns once a statement of this instance waits for a lock: it is in mid-chunk."""
        await self.wait_for_locks(1, number)

    async def wait_for_locks(self, count: int, *numbers: int) -> list[int]:
        """The numbers of those of these instances that are in mid-chunk, once they are so many."""
        names = {f"{self.service}-{number}": number for number in numbers}
        async with self.database.connection() as admin:
            rows = await eventually(
                lambda: admin.fetch(
                    "SELECT DISTINCT application_name FROM pg_stat_activity"
                    " WHERE datname = $1 AND application_name = ANY ($2)"
                    " AND wait_event_type = 'Lock'",
                    self.database.name,
                    list(names),
                ),
                describe=f"{count} of {', '.join(names)} wait for a lock",
                accept=lambda rows: len(rows) >= count,
            )
        return sorted(names[row["application_name"]] for row in rows)

    async def rest(self, *, within_s: float = 60.0) -> None:
        """Wait until nothing lies before the groups, and nothing in the outbox."""
        await self.topics.wait_drained(*self.groups, within_s=within_s)
        async with self.database.connection(self.service) as connection:
            await eventually(
                lambda: connection.fetchval(UNPUBLISHED),
                within_s=within_s,
                describe="the outbox is published",
                accept=lambda count: count == 0,
            )

    async def audit(self) -> Report:
        """What the invariants of the service's schema say."""
        return await audit(self.database.operator_dsn, (Source(self.service, self.service),))

    async def check(self, *, within_s: float = 60.0) -> None:
        """The system comes to rest, and all invariants hold, those of the topics among them."""
        await self.rest(within_s=within_s)
        report = await self.audit()
        async with self.database.connection("operator") as connection:
            checks = [
                check
                for group in self.groups
                for check in (
                    await check_lag(self.topics.connection, group),
                    await check_consumed(self.topics.connection, connection, group),
                )
            ]
        (report + Report(tuple(checks))).require()

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

    def show_logs(self, report: pytest.TestReport) -> None:
        """Puts the end of each instance's log beside a test's failure."""
        for instance in self.instances.values():
            lines = instance.log().splitlines()[-LOG_LINES_SHOWN:]
            state = "running" if instance.is_running else f"exit code {instance.exit_code}"
            report.sections.append((f"{instance.instance_id}, {state}", "\n".join(lines)))

    @classmethod
    @asynccontextmanager
    async def deployed(
        cls, template: Template, environment: Mapping[str, str], folder: Path
    ) -> AsyncIterator[Self]:
        """On a database and topics of its own; no instance runs yet."""
        connection = KafkaConnection(
            environment["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"t{secrets.token_hex(4)}."
        )
        topics = Topics(connection)
        await topics.create(service=cls.service)
        async with template.clone() as database:
            deployment = cls(database, topics, environment, folder)
            yield deployment
            await asyncio.gather(*(one.discard() for one in deployment.instances.values()))
        await topics.close()
        await topics.delete()
