"""Answers to requests on Postgres: kept with the chunk, given again, said of what is refused."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from shared.contracts.stock import AdjustStock, StockAdjusted
from shared.database import connect_pool
from shared.pipeline import Delivery, Outgoing, Refusal, Route
from shared.pipeline.answers import answer_with_command_refused
from shared.pipeline.messages import Received
from shared.testing.builders import adjust_stock
from shared.testing.replicas import TRACEPARENT, deliver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.database import Connection, Pool
    from shared.testing.databases import Database

    from .conftest import Bench, MakeBench

pytestmark = pytest.mark.usefixtures("at_once")


class Administration:
    """A handler that grants what is positive and refuses the rest."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> Sequence[Outgoing | Refusal]:
        results: list[Outgoing | Refusal] = []
        for delivery in deliveries:
            command = delivery.message
            assert isinstance(command, AdjustStock)
            assert not delivery.duplicate
            self.seen.append(command.command_id)
            if command.delta < 0:
                results.append(
                    Refusal(delivery.received, "insufficient_stock", "too little", command)
                )
            else:
                event = StockAdjusted(
                    command_id=command.command_id, product_id=command.product_id,
                    delta=command.delta, available=len(self.seen),
                )  # fmt: skip
                results.append(delivery.answer("stock.events.v1", event))
        return results


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock", max_connections=4) as pool:
        yield pool


@pytest.fixture
def administration() -> Administration:
    return Administration()


@pytest.fixture
def office(administration: Administration, pool: Pool, make_bench: MakeBench) -> Bench:
    route = Route(
        "office", ("stock.admin.v1",), administration,
        refused=answer_with_command_refused("stock.events.v1"), keeps_answers=True,
    )  # fmt: skip
    return make_bench(route, pool)


def adjustments(*commands: AdjustStock) -> list[Delivery]:
    return deliver(*commands, partition=2, offsets=count())


async def test_a_kept_answer_is_given_again_and_the_handler_is_not_asked(
    office: Bench, administration: Administration
) -> None:
    first, second = (adjust_stock(delta=1, command_id=f"c-{n}") for n in range(2))
    await office.runner.run(adjustments(first), ())
    await office.runner.run(adjustments(first, second, first, second), ())
    await office.runner.run(adjustments(second, first), ())
    assert administration.seen == ["c-0", "c-1"]
    values = {row.message_id: row.value for row in office.relay.rows}
    ids = [row.message_id for row in office.relay.rows]
    assert (ids[:3], sorted(ids[3:])) == (["c-0", "c-0", "c-1"], ["c-0", "c-1"])
    assert all(row.value == values[row.message_id] for row in office.relay.rows)


async def test_a_refused_request_is_dead_lettered_answered_and_may_come_again(
    office: Bench, administration: Administration
) -> None:
    refused = adjust_stock(delta=-5, command_id="c-1")
    for _ in range(2):
        await office.runner.run(adjustments(refused), ())
    assert administration.seen == ["c-1", "c-1"], "its id is free: it is decided anew"
    assert office.relay.ids("office.dlq.v1") == ["stock.admin.v1:2:0"] * 2
    assert office.relay.ids("stock.events.v1") == ["c-1:AdjustStock:insufficient_stock"] * 2
    assert await office.count("inbox") == 0
    corrected = adjust_stock(delta=5, command_id="c-1")
    await office.runner.run(adjustments(corrected), ())
    assert office.relay.ids("stock.events.v1")[-1] == "c-1"


async def test_invariant_8_each_copy_of_a_refused_request_is_a_dead_letter(office: Bench) -> None:
    """Every message that was passed over is in the inbox or in the dead letters."""
    refused = adjust_stock(delta=-5, command_id="c-1")
    await office.runner.run(adjustments(refused, refused, refused), ())
    assert sorted(office.relay.ids("office.dlq.v1")) == [
        f"stock.admin.v1:2:{offset}" for offset in range(3)
    ]
    assert set(office.relay.ids("stock.events.v1")) == {"c-1:AdjustStock:insufficient_stock"}


async def test_refusals_without_deliveries_are_a_chunk_too(office: Bench) -> None:
    received = Received("stock.admin.v1", 0, 7, 0, None, b"\xff", TRACEPARENT)
    await office.runner.run((), [Refusal(received, "not_json", "no JSON")])
    assert office.relay.ids("office.dlq.v1") == ["stock.admin.v1:0:7"]
    assert office.relay.ids("stock.events.v1") == [], "nobody can be told"
