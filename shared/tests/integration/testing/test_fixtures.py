"""The fixtures of the root conftest, by means of one real service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.testing.builders import place_order, put_product, release_stock, reserve_stock
from shared.testing.chaos import Chaos, faults_of, faults_of_part
from shared.testing.processes import CRASHED
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local_stack import Stack
    from shared.testing.databases import Database
    from shared.testing.kafka import Topics
    from shared.testing.processes import Instance
    from shared.testing.proxy import Proxy

    Start = Callable[..., Awaitable[Instance]]

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"


@pytest.fixture
async def stock_topics(topics: Topics) -> Topics:
    await topics.create(service="stock")
    await topics.publish("stock.admin.v1", [put_product("P001", quantity=1_000)])
    return topics


async def product_is_there(topics: Topics) -> None:
    await topics.message("stock.events.v1", lambda event: event.type == "ProductPut")


async def test_a_service_runs_against_the_fixtures(stock_topics: Topics, service: Start) -> None:
    stock = await service("stock")
    await product_is_there(stock_topics)
    await stock_topics.publish(COMMANDS, [reserve_stock("o-1", {"P001": 2})])
    reply = await stock_topics.message(REPLIES, lambda reply: reply.order_id == "o-1")
    assert reply.type == "StockReserved"
    await stock_topics.wait_drained("stock", "stock-requests")
    assert await stock.terminate() == 0


async def test_a_crash_point_ends_the_service_there(
    stock_topics: Topics, service: Start, database: Database
) -> None:
    stock = await service("stock")
    await product_is_there(stock_topics)
    await stock.terminate()
    await stock.start(crash_point="after_commit:1")
    await stock_topics.publish(COMMANDS, [reserve_stock("o-1")])
    assert await stock.exited(within_s=20) == CRASHED
    async with database.connection("stock") as connection:
        assert await connection.fetchval("SELECT reserved FROM product") == 1
    await stock.start()
    await stock_topics.wait_for(REPLIES, lambda record: record.key == "o-1")


async def test_chaos_loses_nothing(
    stock_topics: Topics, service: Start, database: Database
) -> None:
    stock = await service("stock")
    await product_is_there(stock_topics)
    orders = [f"o-{number}" for number in range(200)]
    async with Chaos(
        faults_of(stock, kinds=("kill", "freeze")), seed=3, pause_s=(0, 0.2), limit=4
    ) as chaos:
        for order_id in orders:
            await stock_topics.publish(COMMANDS, [reserve_stock(order_id)])
        await chaos.finished()
    chaos.require(kill=2, freeze=2)
    await stock_topics.publish(COMMANDS, [release_stock(order_id) for order_id in orders])
    await stock_topics.wait_for(
        REPLIES, lambda record: record.json["type"] == "StockReleased", count=200, within_s=30
    )
    async with database.connection("stock") as connection:
        row = await connection.fetchrow("SELECT available, reserved, sold FROM product")
    assert tuple(row or ()) == (1_000, 0, 0)


async def test_a_service_lives_behind_a_proxy(
    stock_topics: Topics, service: Start, database: Database, postgres_proxy: Proxy
) -> None:
    stock = await service("stock", DATABASE_URL=postgres_proxy.through(database.dsn("stock")))
    await product_is_there(stock_topics)
    await postgres_proxy.refuse()
    assert postgres_proxy.cut() >= 1

    async def checks() -> dict[str, str]:
        found: dict[str, str] = (await stock.readiness())["checks"]
        return found

    await eventually(checks, accept=lambda found: found["postgres"] != "ok")
    await stock_topics.publish(COMMANDS, [reserve_stock("o-1")])
    await postgres_proxy.heal()
    await stock_topics.wait_for(REPLIES, lambda record: record.key == "o-1", within_s=20)


async def test_parts_of_the_stack_are_killed_and_come_back(
    stack: Stack, database: Database
) -> None:
    before = stack.pid("postgres")
    connection = await asyncpg.connect(database.dsn("stock"))
    async with Chaos(faults_of_part(stack, "postgres"), seed=1, limit=2) as chaos:
        await asyncio.wait_for(chaos.finished(), timeout=60)
    chaos.require(kill=1, outage=1)
    assert stack.pid("postgres") != before
    assert connection.is_closed()


async def test_a_part_that_a_test_left_down_comes_back_by_itself(stack: Stack) -> None:
    await asyncio.to_thread(stack.hold, "valkey")


async def test_as_this_one_after_it_sees(stack: Stack) -> None:
    assert stack.part("valkey").healthy


async def test_no_topic_is_made_by_accident(topics: Topics) -> None:
    with pytest.raises(Exception, match=r"orders\.commands\.v1"):
        await topics.read("orders.commands.v1")
    await topics.create("orders.commands.v1")
    await topics.publish("orders.commands.v1", [place_order("o-1")])
    assert len(await topics.read("orders.commands.v1")) == 1
