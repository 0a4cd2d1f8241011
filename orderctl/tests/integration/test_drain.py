"""`orderctl drain` on real tables: what blocks a deploy, and what is only told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from order_orchestrator.saga import DEFINITION_VERSION
from orderctl.draining import look, queries, wait_until_at_rest
from orderctl.main import app
from orderctl.services import SERVICES
from shared.contracts.topics import GROUPS
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.databases import Database

SAGA = """
INSERT INTO saga (order_id, user_id, fingerprint, fingerprint_version, accepted_at, placed,
                  definition_version, state, version, progress, history, waiting, timer_at,
                  stuck_since, stuck_why)
VALUES ($1, 'user_1', decode(repeat('00', 16), 'hex'), 1, now(), '{}', $2, $3, 1, '{}', '', $4,
        now(), $5, $6)
"""
CHUNK = """
INSERT INTO outbox (owner, public, lease_until, messages)
VALUES ('stock-0', false, now() + $1 * interval '1 second', '[]')
"""


@pytest.fixture(autouse=True)
async def clean(database: Database) -> AsyncIterator[None]:
    yield
    for service in SERVICES:
        async with database.connection(service.schema) as connection:
            await connection.execute("DELETE FROM outbox")
    async with database.connection("orders") as connection:
        await connection.execute("DELETE FROM saga; DELETE FROM parked_command")


async def run(sql: str, *arguments: Any, database: Database, schema: str = "orders") -> None:
    async with database.connection(schema) as connection:
        await connection.execute(sql, *arguments)


async def drain(database: Database, *options: str) -> tuple[int, str, str]:
    arguments = ["drain", "--database-url", database.operator_dsn, *options]
    env = {"KAFKA_BOOTSTRAP_SERVERS": None}
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env)
    return result.exit_code, result.stdout, result.stderr


async def test_the_queries_prepare_for_the_operator(database: Database) -> None:
    found = list(queries)
    assert len(found) == 3
    async with database.connection("operator") as connection:
        for query in found:
            await connection.prepare(query.sql)
            for service in SERVICES:
                assert query.name != "unpublished_chunks" or f"{service.schema}.outbox" in query.sql


async def test_a_system_at_rest_blocks_nothing(database: Database) -> None:
    code, said, noted = await drain(database)
    assert (code, said) == (0, "nothing is under way\nnothing blocks a deploy\n")
    assert noted == "orderctl: KAFKA_BOOTSTRAP_SERVERS is not set: no lag was looked at\n"


async def test_what_is_under_way_is_told_and_blocks_nothing(database: Database) -> None:
    await run(SAGA, "o-1", 1, "CHARGING", True, None, None, database=database)
    await run(SAGA, "o-2", 1, "AWAITING_PAYMENT", False, None, None, database=database)
    await run(CHUNK, 10.0, database=database, schema="stock")
    code, said, _ = await drain(database)
    assert (code, said.splitlines()[-1]) == (0, "nothing blocks a deploy")
    for text in ("CHARGING", "AWAITING_PAYMENT", "wait for their users", "chunks of stock"):
        assert text in said
    document = json.loads((await drain(database, "--json"))[1])
    assert document["blocks"] == []
    assert document["moving"] == ["sagas: 1", "chunks of stock: 1"]
    assert {saga["definitionVersion"] for saga in document["sagas"]} == {1}


async def test_wait_ends_once_nothing_moves_and_fails_where_the_time_is_up(
    database: Database,
) -> None:
    await run(SAGA, "o-1", 1, "CHARGING", True, None, None, database=database)
    code, _, noted = await drain(database, "--wait", "--within", "0")
    assert (code, "there is still under way: sagas: 1" in noted) == (1, True)
    waiting = asyncio.create_task(drain(database, "--wait", "--within", "60"))
    await run("DELETE FROM saga", database=database)
    assert (await waiting)[0] == 0


async def test_stuck_orders_and_those_of_users_are_not_waited_for(database: Database) -> None:
    async with database.connection("orders") as connection:
        now = await connection.fetchval("SELECT now()")
    await run(SAGA, "o-1", 1, "COMPENSATING", False, now, "no answer", database=database)
    await run(SAGA, "o-2", 1, "AWAITING_PAYMENT", False, None, None, database=database)
    await run(
        "INSERT INTO parked_command VALUES ('o-3', 'PayOrder', 'c', '{}', '')", database=database
    )
    code, said, _ = await drain(database, "--wait", "--within", "0")
    assert code == 0
    for text in ("stuck", "wait for their users", "parked commands"):
        assert text in said


async def test_a_definition_that_this_release_does_not_know_blocks(database: Database) -> None:
    newer = DEFINITION_VERSION + 1
    await run(SAGA, "o-1", newer, "CHARGING", True, None, None, database=database)
    code, said, noted = await drain(database)
    assert (code, "nothing blocks" in said) == (1, False)
    assert f"blocks: sagas in CHARGING of definition {newer}: 1" in noted


async def test_chunks_that_nobody_publishes_block(database: Database) -> None:
    await run(CHUNK, -60.0, database=database, schema="coupon")
    code, _, noted = await drain(database)
    assert (code, "blocks: chunks of coupon unpublished past their lease: 1" in noted) == (
        1, True,
    )  # fmt: skip
    assert (await look(database.operator_dsn, None)).lag == {}


async def test_what_moves_to_the_database_while_topics_are_read_is_seen(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order lies on a topic at first, and is in the database once the lag was asked for."""

    async def consumed_meanwhile(*_: object) -> dict[str, Any]:
        await run(SAGA, "o-1", 1, "CHARGING", True, None, None, database=database)
        monkeypatch.setattr("orderctl.draining.standings", nothing)
        return {}

    async def nothing(*_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr("orderctl.draining.standings", consumed_meanwhile)
    kafka = KafkaConnection("127.0.0.1:1")
    found = await wait_until_at_rest(database.operator_dsn, kafka, within_s=0)
    assert found.at_work == "sagas: 1"
    assert set(found.lag) == set(GROUPS)


async def test_what_leaves_the_database_while_topics_are_read_is_seen(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(CHUNK, 10.0, database=database, schema="stock")

    async def published_meanwhile(*_: object) -> dict[str, Any]:
        await run("DELETE FROM outbox", database=database, schema="stock")
        return {}

    monkeypatch.setattr("orderctl.draining.standings", published_meanwhile)
    found = await look(database.operator_dsn, KafkaConnection("127.0.0.1:1"))
    assert found.at_work == "chunks of stock: 1"
