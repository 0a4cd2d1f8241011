"""The orchestrator as a process, and the test in the place of stock, coupon and payment.

    stage.cast("o-1", charge=[SILENT, "refused"])   # the first charge is lost, the second refused
    await stage.publish(place_order("o-1"))
    await stage.outcome("o-1")

A part says for each command of a step what its first, second and further copies are answered:
`done`, `nothing`, `refused` or SILENT; the last one goes on. What has no part is done.

One orchestrator with short times plays for all tests of a session; tests that break it get one of
their own (`own_stage`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest
from prometheus_client.parser import text_string_to_metric_families

from order_orchestrator.consumers import REPLIES, REQUESTS
from order_orchestrator.saga import STEPS
from shared.audit import Source, audit
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.testing.kafka import Topics
from shared.testing.kafka_records import Tail
from shared.testing.processes import Instance
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from local_stack import Environment
    from shared.contracts.base import Message
    from shared.testing.databases import Database, Template
    from shared.testing.kafka import Record

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name

SILENT: Final = "silent"
COMMANDS, EVENTS = "orders.commands.v1", "orders.events.v1"
OUTCOMES: Final = ("OrderConfirmed", "OrderRejected", "OrderCancelled")
WITHIN_S: Final = 60.0
"""For whatever must happen; the machine may be busy."""
STEP_TOPICS: Final = sorted({step.topic for step in STEPS})
REPLY_TOPICS: Final = {
    message.__name__: topic.name
    for topic in TOPICS.values()
    if topic.kind == "replies"
    for message in topic.messages
}

# The broker takes no session shorter than 6 s, and a resend may not be shorter than half of one.
QUICK: Final = {
    "STEP_RESEND_S": "3",
    "RESEND_AT_MOST_S": "3",
    "ORDER_DEADLINE_S": "6",
    "PAY_DEADLINE_S": "600",
    "UNDO_SENDS": "2",
    "READING_GRACE_S": "0.2",
    "TIMER_INTERVAL_S": "0.05",
    "HORIZON_INTERVAL_S": "0.2",
    "LOG_LEVEL": "WARNING",
}


class Stage:
    """One orchestrator, its topics and its database, and the parts that participants play."""

    def __init__(self, topics: Topics, database: Database, answers: Answers) -> None:
        self.topics = topics
        self.database = database
        self.instances: list[Instance] = []
        self.sent: list[tuple[str, Message]] = []
        """(command id without the order id, command), each copy, as they came."""
        self._answers = answers
        self._parts: dict[tuple[str, str], Sequence[str]] = {}
        self._copies: Counter[str] = Counter()
        self._own_topics = Topics(topics.connection)
        self._players: list[asyncio.Task[None]] = []

    @property
    def orchestrator(self) -> Instance:
        """The first instance."""
        return self.instances[0]

    def cast(self, order_id: str, **parts: Sequence[str]) -> None:
        """Gives parts for one order: `charge=[SILENT, "done"]`, `charge_undo=["nothing"]`."""
        known = {f"{step.name}:{direction}" for step in STEPS for direction in ("do", "undo")}
        for name, part in parts.items():
            step, _, undo = name.partition("_")
            command = f"{step}:{undo or 'do'}"
            assert command in known, command
            self._parts[order_id, command] = part

    async def publish(self, *commands: Message | bytes | Record) -> None:
        """What upstream systems send."""
        await self.topics.publish(COMMANDS, commands)

    async def reply(self, *replies: Message) -> None:
        """What a participant says unasked, or late."""
        for reply in replies:
            await self.topics.publish(REPLY_TOPICS[type(reply).__name__], [reply])

    async def events(self, order_id: str) -> list[Any]:
        """The order's events so far, each copy."""
        found = await self.topics.messages(EVENTS)
        return [event for event in found if getattr(event, "order_id", event.type) == order_id]

    async def event(self, order_id: str, type_: str, *, within_s: float = WITHIN_S) -> Any:
        """The first event of this type."""
        return await self.topics.message(
            EVENTS,
            lambda event: event.type == type_ and event.order_id == order_id,
            within_s=within_s,
        )

    async def outcome(self, order_id: str, *, within_s: float = WITHIN_S) -> Any:
        """The order's outcome."""
        return await self.topics.message(
            EVENTS,
            lambda event: event.type in OUTCOMES and event.order_id == order_id,
            within_s=within_s,
        )

    async def refusal(self, key: str, *, within_s: float = WITHIN_S) -> Any:
        """The first `CommandRefused` about an order."""
        return await self.topics.message(
            EVENTS,
            lambda event: event.type == "CommandRefused" and event.key == key,
            within_s=within_s,
        )

    def commands(self, order_id: str) -> list[str]:
        """What was sent for an order, as `reserve:do`, each copy, as it came."""
        return [name for name, command in self.sent if command.order_id == order_id]  # type: ignore[attr-defined]

    async def command(self, order_id: str, name: str, *, copies: int = 1) -> Any:
        """Returns the command, as `charge:undo`, once so many copies of it came."""
        await eventually(
            lambda: self.commands(order_id),
            within_s=WITHIN_S,
            describe=f"{copies} of {order_id}:{name}",
            accept=lambda names: names.count(name) >= copies,
        )
        return next(
            command
            for found, command in self.sent
            if found == name and command.order_id == order_id  # type: ignore[attr-defined]
        )

    async def saga(self, order_id: str) -> dict[str, Any]:
        """The saga as the admin port shows it, whenever it is asked."""
        async with self.orchestrator.admin() as client:
            response = await client.get(f"/sagas/{order_id}")
            document: dict[str, Any] = response.json()
            assert response.status_code == 200, document
            document.pop("askedAt", None)
            return document

    async def until(self, order_id: str, *, within_s: float = WITHIN_S, **facts: Any) -> Any:
        """The saga once it shows these facts: `state="HOLDING"`, `stuck=...` for any."""

        def shows(document: dict[str, Any]) -> bool:
            return all(
                document.get(name) is not None if fact is ... else document.get(name) == fact
                for name, fact in facts.items()
            )

        return await eventually(
            lambda: self.saga(order_id),
            within_s=within_s,
            describe=f"{order_id} shows {facts}",
            accept=shows,
        )

    async def counted(self, metric: str, **labels: str) -> float:
        """A counter of the first instance."""
        async with self.orchestrator.admin() as client:
            text = (await client.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric and labels.items() <= sample.labels.items()
        )

    async def act(self, order_id: str, action: str, **body: str) -> tuple[int, dict[str, Any]]:
        """An operator's action on the admin port: (status, document)."""
        fields = {"operator": "ann", "note": "a test"} | body
        async with self.orchestrator.admin() as client:
            response = await client.post(f"/sagas/{order_id}/{action}", json=fields)
            return response.status_code, response.json()

    async def dead_letters(self, group: str = REQUESTS) -> list[Record]:
        """What a group could not obey."""
        return await self.topics.read(f"{group}.dlq.v1")

    async def all_read(self) -> None:
        """Returns once all commands of users and all replies were read and committed."""
        await self.topics.wait_drained(REPLIES, REQUESTS, within_s=WITHIN_S)

    async def value(self, sql: str, *arguments: Any) -> Any:
        """A value from the schema of orders."""
        async with self.database.connection("orders") as connection:
            return await connection.fetchval(sql, *arguments)

    async def is_sound(self) -> None:
        """Raises unless all invariants hold that hold at any moment."""
        sources = [Source("orders", "order_orchestrator")]
        (await audit(self.database.operator_dsn, sources, only_always=True)).require()

    async def start(self, folder: Path, number: int = 0, **environment: str) -> Instance:
        """Starts an instance of the orchestrator and returns once it is ready."""
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.topics.connection.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": self.topics.prefix,
            "DATABASE_URL": self.database.dsn("orders"),
        }
        settings |= {name: value for name, value in os.environ.items() if _is_security(name)}
        settings |= QUICK | environment
        name = f"order-orchestrator-{number}"
        instance = Instance("order_orchestrator.main", name, settings, folder=folder)
        self.instances.append(instance)
        await instance.start(ready_within_s=WITHIN_S)
        return instance

    async def open(self) -> None:
        """The participants begin to play."""
        await self.topics.create(service="order-orchestrator")
        for topic in STEP_TOPICS:
            tail = await Tail.open(self.topics.connection, topic)
            self._players.append(asyncio.create_task(self._play(tail)))

    async def close(self) -> None:
        for player in self._players:
            player.cancel()
        ended = await asyncio.gather(*self._players, return_exceptions=True)
        await self._own_topics.close()
        for instance in self.instances:
            await instance.discard()
        failures = [end for end in ended if isinstance(end, Exception)]
        assert not failures, failures

    async def _play(self, tail: Tail) -> None:
        played = 0
        try:
            while True:
                await tail.poll()
                new, played = tail.records[played:], len(tail.records)
                replies: list[Message] = []
                for record in new:
                    replies += self._answer(record.message)
                for reply in replies:
                    topic = REPLY_TOPICS[type(reply).__name__]
                    await self._own_topics.publish(topic, [reply])
        finally:
            await tail.consumer.stop()

    def _answer(self, command: Any) -> list[Message]:
        name = command.command_id.removeprefix(f"{command.order_id}:")
        copy = self._copies[command.command_id]
        self._copies[command.command_id] += 1
        self.sent.append((name, command))
        part = self._parts.get((command.order_id, name), ("done",))
        said = part[min(copy, len(part) - 1)]
        return [] if said == SILENT else [getattr(self._answers, said)(command)]


class OwnStage(Protocol):
    """The fixture `own_stage`."""

    async def __call__(self, *, instances: int = 1, **environment: str) -> Stage: ...


@asynccontextmanager
async def _staged(
    environment: Environment, template: Template, answers: Answers
) -> AsyncIterator[Stage]:
    connection = KafkaConnection(
        environment.kafka_bootstrap_servers,
        topic_prefix=f"t{secrets.token_hex(4)}.",
        **_kafka_security(),
    )
    topics = Topics(connection)
    async with template.clone() as database:
        stage = Stage(topics, database, answers)
        try:
            await stage.open()
            yield stage
        finally:
            await stage.close()
            await topics.close()
            await topics.delete()


@pytest.fixture(scope="session")
async def shared_stage(
    environment: Environment,
    template: Template,
    answers: Answers,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    """One orchestrator for all tests that don't break it."""
    async with _staged(environment, template, answers) as stage:
        await stage.start(tmp_path_factory.mktemp("orchestrator"))
        yield stage


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """The shared orchestrator; orders of other tests are on it too."""
    seen = len(shared_stage.orchestrator.log())
    yield shared_stage
    assert shared_stage.orchestrator.is_running
    print(shared_stage.orchestrator.log()[seen:])  # shown where the test has failed


@pytest.fixture
async def own_stage(
    environment: Environment, template: Template, answers: Answers, tmp_path: Path
) -> AsyncIterator[OwnStage]:
    """Makes a stage that the test may break."""
    made: list[Any] = []

    async def make(*, instances: int = 1, **settings: str) -> Stage:
        context = _staged(environment, template, answers)
        made.append(context)
        stage = await context.__aenter__()
        for number in range(instances):
            await stage.start(tmp_path, number, **settings)
        return stage

    yield make
    for context in made:
        await context.__aexit__(None, None, None)


@pytest.fixture
def order_id() -> str:
    """An order id that no other test has."""
    return f"o-{secrets.token_hex(6)}"


def _is_security(name: str) -> bool:
    return name.startswith(("KAFKA_SECURITY_", "KAFKA_SASL_"))


def _kafka_security() -> Mapping[str, str]:
    fields = ("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password")
    found = {field: os.environ.get(f"KAFKA_{field.upper()}") for field in fields}
    return {field: value for field, value in found.items() if value}
