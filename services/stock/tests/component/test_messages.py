"""One instance of stock, from Kafka to Kafka: what it does with good and repeated messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.stock import (
    ProductPut,
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
)
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    new_id,
    put_product,
    release_stock,
    reserve_stock,
    wire,
)
from shared.testing.kafka import Record
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from shared.contracts.base import Message

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"
ADMIN = "stock.admin.v1"
EVENTS = "stock.events.v1"

pytestmark = pytest.mark.usefixtures("running")


def orders(count: int) -> list[str]:
    return [new_id("o") for _ in range(count)]


async def test_an_order_goes_through(shop: Any) -> None:
    (lamp,) = await shop.put(10, price=250)
    (order_id,) = orders(1)
    reserve = reserve_stock(order_id, items={lamp: 3})
    await shop.topics.publish(
        COMMANDS,
        [Record(reserve.to_bytes(), order_id, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"})],
    )
    (record,) = await shop.topics.wait_for(REPLIES, lambda one: one.key == order_id)
    reply = record.message
    assert isinstance(reply, StockReserved)
    assert (reply.items[0].unit_price, reply.currency) == (250, "KRW")
    headers = dict(record.headers)
    assert headers.pop("ce_time").endswith("Z")
    assert headers == {
        "ce_specversion": "1.0", "ce_id": f"{order_id}:reserve:do", "ce_type": "StockReserved",
        "ce_source": "stock", "ce_subject": order_id, "content-type": "application/json",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-00",
    }  # fmt: skip
    await shop.publish(commit_stock(order_id))
    (reply,) = await shop.verdicts([commit_stock(order_id)])
    assert isinstance(reply, StockCommitted)
    assert await shop.counters(lamp) == (7, 0, 3, 10)


async def test_f1_a_whole_topic_again_gives_the_same_replies_and_one_effect(shop: Any) -> None:
    products = await shop.put(30, count=4)
    ids = orders(80)
    commands: list[Message] = [
        reserve_stock(order_id, items={products[at % 4]: 1 + at % 3})
        for at, order_id in enumerate(ids)
    ]
    commands += [release_stock(order_id) for order_id in ids[::3]]
    commands += [commit_stock(order_id) for order_id in ids[1::3]]
    await shop.publish(*commands)
    first = await shop.verdicts(commands)
    assert {type(one) for one in first} >= {StockReserved, StockRefused, StockReleased}
    before = [await shop.counters(product) for product in products]
    duplicates = await shop.metric("inbox_duplicates_total", group="stock")
    whole = [
        Record(one.value, one.key)
        for one in await shop.topics.read(COMMANDS)
        if one.key in set(ids)
    ]
    for _ in range(2):
        await shop.topics.publish(COMMANDS, whole)
    assert await shop.verdicts(commands, times=3) == first
    assert [await shop.counters(product) for product in products] == before
    assert await shop.metric("inbox_duplicates_total", group="stock") == duplicates + 2 * len(
        commands
    )


async def test_f14_a_release_that_comes_first_leaves_a_tombstone(shop: Any) -> None:
    (lamp,) = await shop.put(5)
    (order_id,) = orders(1)
    commands = [release_stock(order_id), reserve_stock(order_id, items={lamp: 1})]
    await shop.publish(*commands)
    released, refused = await shop.verdicts(commands)
    assert isinstance(released, StockReleased)
    assert released.effect == "nothing"
    assert isinstance(refused, StockRefused)
    assert refused.reason is StockRefusal.ALREADY_RELEASED
    assert await shop.counters(lamp) == (5, 0, 0, 5)


async def test_f9_the_body_rules_where_the_key_says_something_else(shop: Any) -> None:
    (lamp,) = await shop.put(9)
    ids = orders(3)
    commands = [reserve_stock(order_id, items={lamp: 1}) for order_id in ids]
    before = await shop.metric("kafka_key_mismatches_total", group="stock")
    keys = [None, "another", ids[2]]
    await shop.topics.publish(
        COMMANDS,
        [Record(one.to_bytes(), key) for one, key in zip(commands, keys, strict=True)],
    )
    replies = await shop.verdicts(commands)
    assert [reply.order_id for reply in replies] == ids
    records = await shop.topics.wait_for(REPLIES, lambda one: one.key in ids, count=3)
    assert all(one.json["orderId"] == one.key for one in records), "replies have the right key"
    assert await shop.metric("kafka_key_mismatches_total", group="stock") == before + 2


async def test_f12_fields_that_nobody_knows_are_ignored(shop: Any) -> None:
    (lamp,) = await shop.put(9)
    (order_id,) = orders(1)
    command = reserve_stock(order_id, items={lamp: 1})
    newer = wire(command) | {"priority": {"level": [1, 2]}, "note": None}
    newer["items"][0]["giftWrap"] = True
    await shop.topics.publish(COMMANDS, [newer, command])
    # the same message to us, so the second is a duplicate and not another content
    (reply,) = await shop.verdicts([command], times=2)
    assert isinstance(reply, StockReserved)
    assert await shop.counters(lamp) == (8, 1, 0, 9)


async def test_an_operators_duplicate_gets_the_stored_answer(shop: Any) -> None:
    command = put_product(new_id("P"), quantity=5, price=100)
    await shop.topics.publish(ADMIN, [command])
    (first,) = (await shop.said(EVENTS, [command.command_id]))[command.command_id]
    assert isinstance(first, ProductPut)
    changed = put_product(command.product_id, price=999, quantity=77)
    adjusted = adjust_stock(command.product_id, delta=3)
    await shop.topics.publish(ADMIN, [changed, adjusted])
    await shop.said(EVENTS, [changed.command_id, adjusted.command_id])
    await shop.topics.publish(ADMIN, [command, adjusted, command])
    answers = await shop.said(EVENTS, [command.command_id], times=2)
    assert all(one == first for one in answers[command.command_id]), "not the new price"
    again = await shop.said(EVENTS, [adjusted.command_id], times=2)
    assert {one.available for one in again[adjusted.command_id]} == {8}
    assert await shop.counters(command.product_id) == (8, 0, 0, 8)


async def test_the_feed_ends_with_true_levels(shop: Any) -> None:
    products = await shop.put(50, count=5)
    ids = orders(40)
    commands: list[Message] = [
        reserve_stock(order_id, items={products[at % 5]: 1}) for at, order_id in enumerate(ids)
    ]
    commands += [commit_stock(order_id) for order_id in ids[::2]]
    await shop.publish(*commands)
    await shop.verdicts(commands)

    async def differences() -> list[str]:
        levels = await shop.levels()
        return [
            product
            for product in products
            if product not in levels
            or (
                levels[product].available, levels[product].reserved, levels[product].sold,
                levels[product].received,
            ) != await shop.counters(product)
        ]  # fmt: skip

    await eventually(differences, accept=lambda found: not found)
