"""Dead letters as an operator meets them: `orderctl dlq` against the whole shop."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from shared.testing.builders import place_order, reserve_stock, wire
from shared.testing.kafka import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

COMMANDS = "orders.commands.v1"
WITHIN_S = 90.0


async def dlq(shop: Shop, *arguments: str, given: bytes = b"") -> tuple[int, str]:
    """`orderctl dlq` as a process: (exit code, what it said and what it complained of)."""
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": shop.topics.connection.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": shop.topics.prefix,
        "DATABASE_URL": shop.database.operator_dsn,
        "ADMIN_URL_ORDER_ORCHESTRATOR_0": shop.orchestrator.admin_url,
        "ORDERCTL_OPERATOR": "ann",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderctl.main", "dlq", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env=os.environ | settings,
    )  # fmt: skip
    said, _ = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def place_of(shop: Shop, topic: str, value: bytes) -> str:
    """Where the letter with that value lies."""
    (found,) = await shop.topics.wait_for(
        topic, lambda record: record.value == value, within_s=WITHIN_S
    )
    return f"{topic}/{found.partition}/{found.offset}"


async def events_of(shop: Shop, order_id: str) -> list[str]:
    """The types of the order's events, each event once."""
    found: dict[str, Any] = {}
    for record in await shop.topics.read("orders.events.v1"):
        if record.json.get("orderId") == order_id:
            found[record.json["eventId"]] = record.json["type"]
    return list(found.values())


async def test_f11_an_unreadable_order_is_edited_and_replayed_and_goes_through(
    shop: Shop, order_id: str, user: str
) -> None:
    """Its id could not be read, so that nothing is stored under it. Replayed twice, it is one."""
    good = place_order(order_id, user_id=user).to_bytes()
    bad = good.replace(b'"PlaceOrder"', b'"PlaceOrder')
    await shop.publish(Record(bad, order_id))
    place = await place_of(shop, "order-orchestrator-requests.dlq.v1", bad)

    code, said = await dlq(shop, "show", place)
    assert code == 0
    assert "reason    not_json" in said
    assert f"order     {order_id}: Unknown order: there is no order {order_id}" in said
    assert f"orderctl dlq replay {place} --value letter.json" in said
    code, said = await dlq(shop, "replay", place)
    assert (code, "as it is nobody can obey it" in said) == (1, True)
    code, said = await dlq(shop, "replay", place, "--value", "-", given=b'{"type":"PlaceOrder"}')
    assert (code, "orderId: is missing; it is required" in said) == (1, True)

    code, said = await dlq(shop, "replay", place, "--value", "-", given=good)
    assert code == 0, said
    assert (await shop.outcome(order_id)).type == "OrderConfirmed"
    (sent,) = [one for one in await shop.topics.read(COMMANDS) if one.value == good]
    assert sent.key == order_id
    assert sent.headers["dlq-replayed-from"] == place
    assert sent.headers["dlq-replayed-by"] == "ann"
    assert sent.headers["ce_type"] == "PlaceOrder"
    (letter,) = [
        one
        for one in await shop.topics.read("order-orchestrator-requests.dlq.v1")
        if one.value == bad
    ]
    assert sent.headers["traceparent"] == letter.headers["traceparent"]

    before, events = await shop.saga(order_id), await events_of(shop, order_id)
    code, said = await dlq(shop, "replay", place, "--value", "-", given=good)
    assert (code, "obeyed already" in said) == (0, True)
    code, said = await dlq(shop, "replay", place, "--value", "-", "--force", given=good)
    assert (code, said.startswith("replayed 1 letter")) == (0, True)
    await shop.rest()
    assert await shop.saga(order_id) == before
    assert await events_of(shop, order_id) == events


@asynccontextmanager
async def stock_fails_on(shop: Shop, order_id: str) -> AsyncIterator[None]:
    """Stock can't write that order's reservation meanwhile, as with bad stored data."""
    async with shop.database.connection("stock") as connection:
        await connection.execute(
            f"ALTER TABLE stock.reservation ADD CONSTRAINT failing CHECK (order_id <> '{order_id}')"
        )
        try:
            yield
        finally:
            await connection.execute("ALTER TABLE stock.reservation DROP CONSTRAINT failing")


async def test_f11_a_saga_that_a_dead_letter_made_stuck_goes_on_after_its_replay(
    shop: Shop, order_id: str, user: str
) -> None:
    """Stock fails on the command, and a garbled copy of it comes as well: two letters of one step.
    The garbled one is corrected and replayed; the other one then is obeyed already."""
    command_id = f"{order_id}:reserve:do"
    garbled = json.dumps(wire(reserve_stock(order_id, user_id=user)) | {"items": None}).encode()
    async with stock_fails_on(shop, order_id):
        await shop.publish(place_order(order_id, user_id=user))
        await shop.until(order_id, stuck=...)
        await shop.topics.publish("stock.commands.v1", [Record(garbled, order_id)])
        unreadable = await place_of(shop, "stock.dlq.v1", garbled)
    (sent,) = [
        one
        for one in await shop.topics.read("stock.commands.v1")
        if one.value != garbled and one.json["commandId"] == command_id
    ]
    assert sent.value is not None
    failed = await place_of(shop, "stock.dlq.v1", sent.value)

    code, said = await dlq(shop, "list", "--order", order_id)
    assert code == 0
    assert "stock.commands.v1  handling_failed  ReserveStock" in said
    assert "stock.commands.v1  invalid  ReserveStock" in said
    code, said = await dlq(shop, "show", failed)
    assert "STUCK since" in said
    assert "replay it as it is: its service failed on it" in said
    assert f"orderctl retry {order_id} --note" in said
    code, said = await dlq(shop, "show", unreadable)
    assert "refuses it: items: is missing; it is required" in said
    assert "a saga waits for it: correct the fields" in said

    other = reserve_stock(f"{order_id}-other", user_id=user).to_bytes()
    code, said = await dlq(shop, "replay", unreadable, "--value", "-", given=other)
    assert (code, "keep their commandId" in said) == (1, True)
    assert (await shop.saga(order_id))["stuck"]
    code, said = await dlq(shop, "replay", unreadable, "--value", "-", given=sent.value)
    assert code == 0, said
    assert f"orderctl retry {order_id} --note" in said
    assert (await shop.outcome(order_id)).type == "OrderConfirmed"
    document = await shop.until(order_id, state="CONFIRMED")
    assert document["stuck"] is None

    await shop.topics.wait_drained("stock")
    code, said = await dlq(shop, "replay", failed)
    assert (code, "obeyed already" in said) == (0, True), said
    code, said = await dlq(shop, "replay", failed, "--force")
    assert (code, said.startswith("replayed 1 letter")) == (0, True), said
    await shop.rest()
    assert await shop.saga(order_id) == document
