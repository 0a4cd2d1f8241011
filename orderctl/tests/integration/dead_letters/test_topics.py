"""`orderctl dlq` against real topics and real inboxes, without any service."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from typer.testing import CliRunner

from orderctl.dead_letters.letter import DEAD_LETTER_TOPICS
from orderctl.main import app
from shared.contracts.base import Message, fingerprint, message_id
from shared.kafka.topics import admin_client
from shared.testing.builders import adjust_stock, cancel_order, place_order, reserve_stock
from shared.testing.kafka import Record
from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterable

    from click.testing import Result

    from shared.testing.databases import Database
    from shared.testing.kafka import Topics

REQUESTS, STOCK = "order-orchestrator-requests.dlq.v1", "stock-requests.dlq.v1"
COMMANDS, ADMIN = "orders.commands.v1", "stock.admin.v1"
Said = tuple[int, str, str]


def letter(
    value: Message | bytes, reason: str, origin: str = COMMANDS, key: str | None = "o-1"
) -> Record:
    content = value if isinstance(value, bytes) else value.to_bytes()
    headers = {
        "dlq-reason": reason,
        "dlq-error": f"why {reason}",
        "dlq-original-topic": origin,
        "dlq-original-partition": "3",
        "dlq-original-offset": "17",
        "dlq-original-timestamp": "1769850000000",
        "dlq-attempts": "1",
    }
    return Record(content, key, headers)


def invoke(topics: Topics, arguments: tuple[str, ...], database: str) -> Result:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": topics.connection.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": topics.prefix,
        "DATABASE_URL": database,
        "ORDERCTL_OPERATOR": "ann",
    }
    return CliRunner().invoke(app, ["dlq", *arguments], env=settings)


async def dlq(topics: Topics, *arguments: str, database: str = "") -> Said:
    """In a thread, since a command has an event loop of its own."""
    result = await asyncio.to_thread(invoke, topics, arguments, database)
    return result.exit_code, result.stdout, result.stderr


async def asked(topics: Topics, *arguments: str, database: str = "") -> Any:
    code, said, complained = await dlq(topics, *arguments, "--json", database=database)
    assert code == 0, complained
    return json.loads(said)


@pytest.fixture
async def letters(topics: Topics) -> dict[str, list[str]]:
    """Places by reason, of letters on two topics, in the order in which they were written."""
    await topics.create(*DEAD_LETTER_TOPICS, COMMANDS, ADMIN)
    await topics.publish(
        REQUESTS,
        [
            *[letter(cancel_order("o-1"), "too_late") for _ in range(3)],
            letter(b"\xff\x00" * 130_000, "too_large"),
            letter(cancel_order("o-2"), "temporarily_unavailable", key="o-2"),
            letter(cancel_order("o-3"), "temporarily_unavailable", key="o-3"),
        ],
    )
    adjusted = adjust_stock("P001", delta=1, command_id="a-1")
    await topics.publish(STOCK, [letter(adjusted, "unknown_product", ADMIN, "P001")])
    found: dict[str, list[str]] = {}
    for topic in (REQUESTS, STOCK):
        for record in await topics.read(topic):
            place = f"{topic}/{record.partition}/{record.offset}"
            found.setdefault(str(record.headers["dlq-reason"]), []).append(place)
    return found


async def test_all_topics_are_counted_by_cause(
    topics: Topics, letters: dict[str, list[str]]
) -> None:
    document = await asked(topics, "list")
    assert document["letters"] == 7
    counts = {(one["reason"], one["type"]): one["count"] for one in document["causes"]}
    assert counts == {
        ("too_late", "CancelOrder"): 3,
        ("too_large", None): 1,
        ("temporarily_unavailable", "CancelOrder"): 2,
        ("unknown_product", "AdjustStock"): 1,
    }
    late = next(one for one in document["causes"] if one["reason"] == "too_late")
    assert late["example"] == letters["too_late"][-1]


FILTERS = (
    (("--topic", STOCK), 1),
    (("--topic", STOCK, "--topic", REQUESTS), 7),
    (("--reason", "too_late"), 3),
    (("--type", "AdjustStock"), 1),
    (("--origin", ADMIN), 1),
    (("--order", "o-2"), 1),
    (("--since", "1h"), 7),
    (("--since", "2100-01-01T00:00:00Z"), 0),
)


async def test_filters(topics: Topics, letters: dict[str, list[str]]) -> None:
    found = {options: (await asked(topics, "list", *options))["letters"] for options, _ in FILTERS}
    assert found == dict(FILTERS)


async def test_each_letter_the_latest_of_them(
    topics: Topics, letters: dict[str, list[str]]
) -> None:
    code, said, complained = await dlq(
        topics, "list", "--all", "--reason", "too_late", "--limit", "2"
    )
    assert code == 0
    assert [line.split("  ")[1] for line in said.splitlines()] == letters["too_late"][1:]
    assert "1 earlier letters are not shown" in complained


async def test_a_letter_of_260_kilobytes_is_shown_short_and_given_whole(
    topics: Topics, letters: dict[str, list[str]]
) -> None:
    (place,) = letters["too_large"]
    code, said, _ = await dlq(topics, "show", place)
    assert code == 0
    assert "value, 260,000 bytes:" in said
    assert len(said) < 5_000
    raw = await asyncio.to_thread(invoke, topics, ("show", place, "--raw"), "")
    assert raw.stdout_bytes == b"\xff\x00" * 130_000


async def test_places_where_no_letter_is(topics: Topics, letters: dict[str, list[str]]) -> None:
    """Each is told with what there is: not yet, no such partition, aged out."""
    topic, partition, offset = letters["too_late"][0].split("/")
    code, said, complained = await dlq(topics, "show", f"{topic}/{partition}/99")
    assert (code, said) == (1, "")
    assert f"no letter is at {topic}/{partition}/99 yet: the last there is at" in complained
    code, _, complained = await dlq(topics, "replay", f"{topic}/12/0")
    assert (code, "has the partitions 0 to 11" in complained) == (1, True)

    name = TopicPartition(topics.connection.named(topic), int(partition))
    async with admin_client(topics.connection) as client:
        await client.delete_records({name: RecordsToDelete(before_offset=int(offset) + 1)})
    code, _, complained = await dlq(topics, "show", letters["too_late"][0])
    assert code == 1
    assert f"is gone: {topic} keeps letters for 30 days" in complained
    assert f"now begins at {int(offset) + 1}" in complained
    assert (await asked(topics, "list", "--reason", "too_late"))["letters"] == 2


async def test_missing_topics_and_no_broker(topics: Topics) -> None:
    code, _, complained = await dlq(topics, "list", "--topic", STOCK)
    assert (code, "`orderctl topics check` tells what is missing" in complained) == (1, True)
    port = ReservedPort("127.0.0.1")
    nobody = f"127.0.0.1:{port.port}"
    for command in (("list",), ("show", f"{STOCK}/0/0"), ("replay", f"{STOCK}/0/0")):
        told = await dlq(topics, *command, "--bootstrap-servers", nobody)
        assert told[:2] == (1, "")
        assert f"no Kafka broker answers at {nobody}" in told[2]
    port.release()


async def obey(database: Database, schema: str, messages: Iterable[Message]) -> None:
    """As if the service had obeyed these."""
    async with database.connection(schema) as connection:
        await connection.executemany(
            "INSERT INTO inbox (message_type, message_id, fingerprint) VALUES ($1, $2, $3)",
            [(one.type, message_id(one), fingerprint(one)) for one in messages],
        )


async def test_a_group_is_told_first_and_sent_with_yes(
    topics: Topics, letters: dict[str, list[str]], database: Database
) -> None:
    """What was obeyed since stays, and so does what would be refused again."""
    await obey(database, "orders", [cancel_order("o-3")])
    first, second = letters["temporarily_unavailable"]
    obeyed, due = (first, second) if "o-3" in await shown(topics, first) else (second, first)
    told = await asked(topics, "replay", "--origin", COMMANDS, database=database.operator_dsn)
    assert (told["dryRun"], told["replayed"]) == (True, 1)
    assert [one["place"] for one in told["examples"]] == [due]
    left = {one["kind"]: (one["count"], one["example"]) for one in told["left"]}
    assert left["obeyed already"] == (1, obeyed)
    assert left["of no use"][0] == 3
    assert left["unreadable"][0] == 1
    assert await topics.read(COMMANDS) == []

    done = await asked(
        topics, "replay", "--origin", COMMANDS, "--yes", database=database.operator_dsn
    )
    assert (done["dryRun"], done["replayed"]) == (False, 1)
    (sent,) = await topics.read(COMMANDS)
    assert (sent.key, sent.message) == ("o-2", cancel_order("o-2"))
    assert sent.headers["dlq-replayed-from"] == due
    assert sent.headers["dlq-replayed-by"] == "ann"


async def shown(topics: Topics, place: str) -> str:
    return (await dlq(topics, "show", place))[1]


async def test_a_limit_and_a_missing_database(
    topics: Topics, letters: dict[str, list[str]]
) -> None:
    options = ("replay", "--reason", "temporarily_unavailable", "--limit", "1", "--yes")
    code, said, complained = await dlq(topics, *options)
    assert (code, said.splitlines()[0]) == (0, "replayed 1 letter:")
    assert "DATABASE_URL is not set" in complained
    assert len(await topics.read(COMMANDS)) == 1


async def test_a_saga_s_letter_needs_a_database_or_force(
    topics: Topics, database: Database
) -> None:
    commands, dead = "stock.commands.v1", "stock.dlq.v1"
    await topics.create(dead, commands)
    command = reserve_stock("o-1")
    await topics.publish(dead, [letter(command, "handling_failed", commands)])
    (record,) = await topics.read(dead)
    place = f"{dead}/{record.partition}/{record.offset}"
    code, said, complained = await dlq(topics, "replay", place)
    assert (code, await topics.read(commands)) == (1, [])
    assert "DATABASE_URL is not set. `export $(make -s env)` sets it; --force" in said
    assert "letters of sagas need --force" in complained
    for options in (("--force",), ("--database-url", database.operator_dsn)):
        code, _, complained = await dlq(topics, "replay", place, *options)
        assert code == 0, complained
    assert [one.message for one in await topics.read(commands)] == [command, command]


async def test_an_old_letter_needs_force(topics: Topics, letters: dict[str, list[str]]) -> None:
    (place,) = letters["unknown_product"]
    code, said, _ = await dlq(topics, "replay", place, "--keep-inbox-s", "0")
    assert (code, "--force replays it" in said) == (1, True)
    code, _, _ = await dlq(topics, "replay", place, "--keep-inbox-s", "0", "--force")
    assert code == 0
    (sent,) = await topics.read(ADMIN)
    assert sent.message == adjust_stock("P001", delta=1, command_id="a-1")


async def test_a_replay_that_came_back_tells_where_it_was_taken_from(topics: Topics) -> None:
    await topics.create(REQUESTS, COMMANDS)
    command = place_order("o-1")
    replayed = {"dlq-replayed-from": f"{REQUESTS}/1/2", "dlq-replayed-by": "ann"}
    await topics.publish(COMMANDS, [Record(command.to_bytes(), "o-1", replayed)])
    (origin,) = await topics.read(COMMANDS)
    dead = letter(command, "order_id_reused")
    place = {
        "dlq-original-partition": str(origin.partition),
        "dlq-original-offset": str(origin.offset),
    }
    await topics.publish(REQUESTS, [Record(dead.value, dead.key, {**dead.headers, **place})])
    (record,) = await topics.read(REQUESTS)
    said = await shown(topics, f"{REQUESTS}/{record.partition}/{record.offset}")
    assert f"replay of  {REQUESTS}/1/2, by ann" in said


STEERING = (
    "\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\r\n", "\x00", "\x08", "\x7f", "\u061c", "\u200b",
    "\u200f", "\u2028", "\u202e", "\u2066", "\ufeff", "\U000e0041", "[red]", ":smile:",
)  # fmt: skip


def odd_letters(count: int) -> Iterable[Record]:
    """Random bytes, headers that are missing, huge, null, or steer a terminal."""
    random = Random(4)
    for number in range(count):
        plain = letter(cancel_order(f"o-{number}"), "too_late", key=f"o-{number}")
        words = "".join(random.choices(STEERING, k=20))
        match number % 6:
            case 0:
                yield replace(plain, value=random.randbytes(random.randrange(2_000)))
            case 1:
                yield replace(plain, headers={})
            case 2:
                yield replace(plain, headers=dict.fromkeys(plain.headers, words))
            case 3:
                yield replace(plain, headers=dict.fromkeys(plain.headers, random.randbytes(60)))
            case 4:
                huge = dict.fromkeys(("dlq-error", "dlq-reason"), words * 1_000)
                yield replace(plain, value=None, headers=huge | {"odd": None})
            case 5:
                body = json.dumps({"type": f"Pay{words}", "orderId": words}).encode()
                yield replace(plain, key=words, value=body)


async def test_thousands_of_odd_letters_are_listed_and_steer_no_terminal(topics: Topics) -> None:
    await topics.create(*DEAD_LETTER_TOPICS)
    odd = list(odd_letters(3_000))
    await topics.publish(REQUESTS, odd)
    await topics.publish(STOCK, [letter(cancel_order("o-1"), "too_late") for _ in range(40)])
    document = await asked(topics, "list")
    assert document["letters"] == 3_040
    counts = {(one["reason"], one["type"]): one["count"] for one in document["causes"]}
    assert counts["too_late", "CancelOrder"] == 40, "after thousands of others"

    code, said, _ = await dlq(topics, "list", "--all", "--json", "--limit", "10000")
    lines = said.splitlines()
    assert (code, len(lines)) == (0, 3_040)
    assert max(map(len, lines)) < 10_000
    places = [json.loads(line)["place"] for line in lines[:: len(lines) // 12]]
    shown = [await dlq(topics, "show", place) for place in places]
    listed = [await dlq(topics, "list", *options) for options in ((), ("--all",))]
    told = await dlq(topics, "replay", "--origin", COMMANDS)
    for code, said, _ in (*shown, *listed, told):
        assert code == 0
        assert all(line.isprintable() for line in said.split("\n"))
    assert max(len(line) for line in listed[1][1].split("\n")) <= 300
