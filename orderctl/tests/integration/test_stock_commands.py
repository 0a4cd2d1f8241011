"""`orderctl stock` against a real instance of stock."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from orderctl.main import app
from shared.kafka.connection import KafkaConnection
from shared.testing.builders import put_product
from shared.testing.kafka import Topics
from shared.testing.processes import Instance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local_stack import Environment
    from shared.testing.databases import Database, Template

ADMIN, EVENTS = "stock.admin.v1", "stock.events.v1"
Said = tuple[int, str, str]


class Operated:
    """An instance of stock, and an operator who speaks to it."""

    def __init__(self, instance: Instance, topics: Topics, database: Database) -> None:
        self.instance = instance
        self.topics = topics
        self.database = database

    async def put(self, product_id: str, quantity: int) -> str:
        """A new product, once stock has it."""
        command = put_product(product_id, quantity=quantity)
        await self.topics.publish(ADMIN, [command])
        await self.topics.wait_for(
            EVENTS, lambda one: one.json.get("commandId") == command.command_id, within_s=30
        )
        return product_id

    async def orderctl(self, *arguments: str, operator: str = "ann") -> Said:
        """In a thread, since a command has an event loop of its own."""
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.topics.connection.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": self.topics.prefix,
            "ADMIN_URL_STOCK_0": self.instance.admin_url,
            "ORDERCTL_OPERATOR": operator,
        }
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["stock", *arguments], env=environment
        )
        return result.exit_code, result.stdout, result.stderr

    async def movements(self, product_id: str) -> list[tuple[int, str | None]]:
        """Units and reason of each adjustment in the ledger."""
        async with self.database.connection("stock") as connection:
            rows = await connection.fetch(
                "SELECT quantity, reason FROM stock_movement"
                " WHERE product_id = $1 AND kind = 'adjusted' ORDER BY at",
                product_id,
            )
        return [tuple(row) for row in rows]


@pytest.fixture(scope="module")
async def stock(
    template: Template, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Operated]:
    topics = Topics(
        KafkaConnection(
            environment.kafka_bootstrap_servers, topic_prefix=f"t{secrets.token_hex(4)}."
        )
    )
    await topics.create(service="stock")
    async with template.clone() as database:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": environment.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": topics.prefix,
            "DATABASE_URL": database.dsn("stock"),
            "REDIS_URL": environment.redis_url,
        }
        instance = Instance(
            "stock.main", "stock-0", settings, folder=tmp_path_factory.mktemp("stock")
        )
        await instance.start(ready_within_s=60)
        yield Operated(instance, topics, database)
        await instance.discard()
    await topics.close()
    await topics.delete()


async def test_units_come_and_go_with_who_and_why(stock: Operated) -> None:
    product = await stock.put("P-units", 5)
    assert await stock.orderctl(
        "receive", product, "20", "--reason", "delivery 4711", "--command-id", "in-1"
    ) == (0, "received 20 of P-units; 25 available\n", "")
    assert (await stock.orderctl("write-off", product, "3", "--reason", "broken"))[:2] == (
        0, "wrote off 3 of P-units; 22 available\n",
    )  # fmt: skip
    assert await stock.movements(product) == [(20, "ann: delivery 4711"), (-3, "ann: broken")]
    code, said, _ = await stock.orderctl("show", product, "--json")
    assert code == 0
    shown = json.loads(said)
    assert (shown["available"], shown["received"], shown["strategy"]) == (22, 22, "optimistic")


async def test_a_repeat_is_obeyed_once_and_answered_again(stock: Operated) -> None:
    product = await stock.put("P-repeat", 0)
    call = ["receive", product, "7", "--reason", "delivery", "--command-id", "in-2"]
    first, again = await stock.orderctl(*call), await stock.orderctl(*call)
    assert first == again == (0, "received 7 of P-repeat; 7 available\n", "")
    assert await stock.movements(product) == [(7, "ann: delivery")]
    code, _, noted = await stock.orderctl(*call, operator="bob")
    assert code == 1
    assert "was sent before with other content; the first one counts" in noted


async def test_refusals_are_told_in_plain_words(stock: Operated) -> None:
    product = await stock.put("P-few", 2)
    code, said, noted = await stock.orderctl(
        "write-off", product, "3", "--reason", "broken", "--command-id", "out-1"
    )
    assert (code, said) == (1, "")
    assert noted == (
        "orderctl: stock refuses: 2 units of P-few are available; 3 can't be written off\n"
    )
    for call in (["receive", "P-404", "3", "--reason", "x"], ["strategy", "P-404", "optimistic"]):
        code, _, noted = await stock.orderctl(*call)
        assert code == 1
        assert "stock refuses: there is no product P-404; put it first" in noted
    code, _, noted = await stock.orderctl("show", "P-404")
    assert (code, noted) == (1, "orderctl: Unknown product: there is no product P-404\n")


async def test_a_strategy_is_chosen(stock: Operated) -> None:
    product = await stock.put("P-strategy", 2)
    code, said, _ = await stock.orderctl("strategy", product, "pessimistic")
    assert (code, said) == (0, "the strategy of P-strategy is pessimistic\n")
    code, said, _ = await stock.orderctl("show", product)
    assert code == 0
    assert re.search(r"^strategy +pessimistic *$", said, re.MULTILINE)


async def test_low_ones_are_listed(stock: Operated) -> None:
    await stock.put("P-low", 10)
    await stock.put("P-many", 11)
    _, said, _ = await stock.orderctl("list", "--low", "--json")
    ids = [level["productId"] for level in json.loads(said)["levels"]]
    assert "P-low" in ids
    assert "P-many" not in ids
    _, said, noted = await stock.orderctl("list", "--limit", "1")
    assert len(said.splitlines()) == 2
    assert "goes on" in noted


async def test_a_command_without_an_answer_is_found_out_by_its_repeat(stock: Operated) -> None:
    product = await stock.put("P-late", 1)
    await stock.instance.terminate()
    call = ["receive", product, "4", "--reason", "delivery", "--within", "1"]
    code, said, noted = await stock.orderctl(*call)
    assert (code, said) == (1, "")
    assert "stock has not answered within 1 s" in noted
    (command_id,) = set(re.findall(r"--command-id (orderctl-[0-9a-f]+)", noted))
    await stock.instance.start(ready_within_s=60)
    call[-1] = "30"
    assert await stock.orderctl(*call, "--command-id", command_id) == (
        0, "received 4 of P-late; 5 available\n", "",
    )  # fmt: skip
    assert await stock.movements(product) == [(4, "ann: delivery")]


async def test_no_broker_is_a_clear_failure(stock: Operated) -> None:
    code, said, noted = await stock.orderctl(
        "receive", "P-1", "4", "--reason", "x", "--bootstrap-servers", "127.0.0.1:1"
    )
    assert (code, said) == (1, "")
    assert "no Kafka broker answers at 127.0.0.1:1" in noted
