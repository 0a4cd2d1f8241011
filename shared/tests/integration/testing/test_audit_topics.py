"""The checks over the topics find what is planted: lag, lost messages, outcomes."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.audit import audit_topics
from shared.audit.topics import check_lag, check_outcomes
from shared.contracts.base import fingerprint, message_id
from shared.contracts.orders import (
    OrderAccepted,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
    OutcomeReason,
)
from shared.contracts.topics import RETENTION_MS
from shared.testing.builders import commit_stock, release_stock, reserve_stock
from shared.testing.kafka import Record

if TYPE_CHECKING:
    from shared.audit import Report
    from shared.contracts.base import Message
    from shared.testing.databases import Database
    from shared.testing.kafka import Topics

COMMANDS = "stock.commands.v1"
EVENTS = "orders.events.v1"
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def accepted(order_id: str) -> OrderAccepted:
    return OrderAccepted(order_id=order_id, user_id="user_1", version=1, at=AT)


def awaiting(order_id: str) -> OrderAwaitingPayment:
    return OrderAwaitingPayment(
        order_id=order_id, user_id="user_1", version=2, at=AT, items=(), total=1, discount=0,
        currency="KRW", pay_by=AT,
    )  # fmt: skip


def confirmed(order_id: str) -> OrderConfirmed:
    return OrderConfirmed(
        order_id=order_id, user_id="user_1", version=3, at=AT, items=(), total=1, discount=0,
        currency="KRW",
    )  # fmt: skip


def rejected(order_id: str) -> OrderRejected:
    return OrderRejected(
        order_id=order_id, user_id="user_1", version=3, at=AT, reason=OutcomeReason.OUT_OF_STOCK
    )


def cancelled(order_id: str) -> OrderCancelled:
    return OrderCancelled(
        order_id=order_id, user_id="user_1", version=3, at=AT, reason=OutcomeReason.PAYMENT_TIMEOUT
    )


@pytest.fixture
async def stock_topics(topics: Topics) -> Topics:
    await topics.create(COMMANDS, "stock.dlq.v1", EVENTS)
    return topics


async def commit_all(topics: Topics) -> None:
    """Commits the ends of the topic in the name of the group `stock`."""
    consumer = AIOKafkaConsumer(
        **topics.connection.client_options(),
        group_id=topics.connection.named("stock"),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        partitions = [
            TopicPartition(topics.connection.named(COMMANDS), partition) for partition in range(12)
        ]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.commit({one: end for one, end in ends.items() if end})
    finally:
        await consumer.stop()


async def obey(database: Database, *messages: Message) -> None:
    async with database.connection("stock") as connection:
        await connection.executemany(
            "INSERT INTO inbox VALUES ($1, $2, $3)",
            [(message.type, message_id(message), fingerprint(message)) for message in messages],
        )


async def dead_letter(topics: Topics, record: Record) -> None:
    headers = {
        "dlq-reason": "handling_failed",
        "dlq-original-topic": record.topic,
        "dlq-original-partition": str(record.partition),
        "dlq-original-offset": str(record.offset),
    }
    await topics.publish("stock.dlq.v1", [Record(record.value, record.key, headers)])


async def audited(topics: Topics, database: Database) -> Report:
    return await audit_topics(topics.connection, database.operator_dsn, groups=["stock"])


def problems(report: Report) -> list[str]:
    return [
        str(row.get("problem") or row) for check in report.violations for row in check.violations
    ]


async def test_what_was_obeyed_or_dead_lettered_is_accounted_for(
    stock_topics: Topics, database: Database
) -> None:
    obeyed = [reserve_stock(f"o-{number}") for number in range(200)]
    replayed = commit_stock("o-1")
    await stock_topics.publish(COMMANDS, [*obeyed, *obeyed[:50], b"no json", replayed])
    for record in await stock_topics.read(COMMANDS):
        if record.value in (b"no json", replayed.to_bytes()):
            await dead_letter(stock_topics, record)
    # It failed once, an operator replayed it, and then it was obeyed.
    await stock_topics.publish(COMMANDS, [replayed])
    await obey(database, *obeyed, replayed)
    await commit_all(stock_topics)
    report = await audited(stock_topics, database)
    report.require()
    (consumed,) = [check for check in report.checks if check.invariant == 8]
    assert consumed.looked_at == 253


async def test_a_message_that_vanished_is_found(stock_topics: Topics, database: Database) -> None:
    kept, lost, other = reserve_stock("o-1"), release_stock("o-2"), reserve_stock("o-3")
    await stock_topics.publish(COMMANDS, [kept, lost, reserve_stock("o-3", {"P009": 9})])
    await obey(database, kept, other)
    await commit_all(stock_topics)
    assert sorted(problems(await audited(stock_topics, database))) == [
        "ReleaseStock o-2:reserve:undo was lost",
        "ReserveStock o-3:reserve:do was lost",
    ]


async def test_an_unreadable_one_without_a_dead_letter_is_found(
    stock_topics: Topics, database: Database
) -> None:
    await stock_topics.publish(COMMANDS, [b"no json"])
    await commit_all(stock_topics)
    (problem,) = problems(await audited(stock_topics, database))
    assert "unreadable (not_json)" in problem


async def test_obeyed_and_dead_lettered_is_found(stock_topics: Topics, database: Database) -> None:
    both = reserve_stock("o-1")
    await stock_topics.publish(COMMANDS, [both])
    (record,) = await stock_topics.read(COMMANDS)
    await dead_letter(stock_topics, record)
    await obey(database, both)
    await commit_all(stock_topics)
    (problem,) = problems(await audited(stock_topics, database))
    assert problem == "ReserveStock o-1:reserve:do was obeyed and dead-lettered"


async def test_a_dead_letter_whose_replayed_copy_may_be_gone_is_not_judged(
    stock_topics: Topics, database: Database
) -> None:
    """Kafka deletes a partition from its front: a copy goes no sooner than what it is a copy of."""
    replayed, both = reserve_stock("o-1"), reserve_stock("o-2")
    await stock_topics.publish(COMMANDS, [Record(replayed.to_bytes(), "o-1"), both])
    for record in await stock_topics.read(COMMANDS):
        await dead_letter(stock_topics, record)
    await stock_topics.publish(COMMANDS, [Record(replayed.to_bytes(), "o-1")])
    await obey(database, replayed, both)
    await commit_all(stock_topics)
    (lay, _) = [one for one in await stock_topics.read(COMMANDS) if one.key == "o-1"]
    await stock_topics.lose(COMMANDS, [lay.partition])
    assert problems(await audited(stock_topics, database)) == [
        "ReserveStock o-2:reserve:do was obeyed and dead-lettered"
    ]


async def test_lag_is_found_and_is_no_loss(stock_topics: Topics, database: Database) -> None:
    await stock_topics.publish(COMMANDS, [reserve_stock("o-1"), reserve_stock("o-2")])
    report = await audited(stock_topics, database)
    (check,) = report.violations
    assert (check.name, check.invariant) == ("lag_is_zero", 9)
    assert sum(row["lag"] for row in check.violations) == 2
    await commit_all(stock_topics)
    assert (await check_lag(stock_topics.connection, "stock")).ok


async def test_what_the_inbox_may_have_forgotten_is_not_judged(
    stock_topics: Topics, database: Database
) -> None:
    """Kafka deletes segments, so that a message may outlive its retention, and its inbox row."""
    old = int((time.time() - RETENTION_MS / 1000 - 60) * 1000)
    await stock_topics.publish(
        COMMANDS,
        [Record(release_stock("o-1").to_bytes(), "o-1", timestamp_ms=old), release_stock("o-2")],
    )
    await commit_all(stock_topics)
    report = await audited(stock_topics, database)
    assert problems(report) == ["ReleaseStock o-2:reserve:undo was lost"]


async def store(database: Database, **states: str) -> None:
    """Sagas of these states."""
    async with database.connection("orders") as connection:
        for order_id, state in states.items():
            await connection.execute(
                "INSERT INTO saga (order_id, user_id, fingerprint, fingerprint_version,"
                " accepted_at, placed, definition_version, state, version, told_version, told_at,"
                " progress, history, waiting)"
                " VALUES ($1, '', decode(repeat('00', 16), 'hex'), 1, now(), '{}', 1, $2, 1, 1,"
                " now(), '{}', '', false)",
                order_id, state,
            )  # fmt: skip


STORED = {"a": "CONFIRMED", "b": "REJECTED", "c": "CANCELLED", "d": "AWAITING_PAYMENT"}


async def test_orders_that_were_told_of_are_there_as_told(
    stock_topics: Topics, database: Database
) -> None:
    told = [accepted("a"), confirmed("a"), rejected("b"), accepted("c"), cancelled("c")]
    await stock_topics.publish(EVENTS, [*told, confirmed("a"), accepted("d"), awaiting("d")])
    await store(database, **STORED)
    report = await audited(stock_topics, database)
    report.require()
    (check,) = [one for one in report.checks if one.name == "orders_are_told_as_they_are"]
    assert check.looked_at == 4


@pytest.mark.parametrize(
    ("told", "stored", "found"),
    [
        ([accepted("a"), confirmed("a")], {}, ("a", None, ["OrderAccepted", "OrderConfirmed"])),
        ([], {"b": "REJECTED"}, ("b", "REJECTED", [])),
        ([accepted("c"), cancelled("c")], {"c": "CONFIRMED"},
         ("c", "CONFIRMED", ["OrderAccepted", "OrderCancelled"])),
        ([accepted("d"), awaiting("d")], {"d": "CANCELLED"},
         ("d", "CANCELLED", ["OrderAccepted", "OrderAwaitingPayment"])),
    ],
    ids=["no such order", "never told", "another outcome", "its outcome is missing"],
)  # fmt: skip
async def test_an_order_that_is_told_otherwise_is_found_by_that_check_alone(
    stock_topics: Topics, database: Database, told: Any, stored: Any, found: Any
) -> None:
    await stock_topics.publish(EVENTS, [accepted("x"), confirmed("x"), *told])
    await store(database, x="CONFIRMED", **stored)
    (check,) = (await audited(stock_topics, database)).violations
    assert check.name == "orders_are_told_as_they_are"
    order_id, state, events = found
    assert check.violations == ({"order_id": order_id, "state": state, "told": events},)


async def test_one_outcome_each_however_often_it_is_delivered(stock_topics: Topics) -> None:
    await stock_topics.publish(
        EVENTS,
        [
            accepted("o-1"), confirmed("o-1"), confirmed("o-1"),
            accepted("o-2"), rejected("o-2"),
            awaiting("o-3"), accepted("o-3"), cancelled("o-3"),
            accepted("o-4"), awaiting("o-4"),
            rejected("o-5"), accepted("o-5"),
        ],
    )  # fmt: skip
    check = await check_outcomes(stock_topics.connection)
    assert check.ok, check.violations
    assert check.looked_at == 5


async def test_no_outcome_and_two_outcomes_are_found(stock_topics: Topics) -> None:
    await stock_topics.publish(
        EVENTS, [accepted("o-1"), accepted("o-2"), confirmed("o-2"), cancelled("o-2")]
    )
    check = await check_outcomes(stock_topics.connection)
    assert check.violations == (
        {"order_id": "o-2", "outcomes": ["OrderCancelled", "OrderConfirmed"]},
        {"order_id": "o-1", "outcomes": []},
    )
