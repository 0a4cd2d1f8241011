"""Several instances of stock on one database: they race, come, go, freeze, and share one feed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.stock import StockLevel, StockRefusal, StockRefused, StockReserved
from shared.testing.builders import new_id, release_stock, reserve_stock
from shared.testing.kafka import Record
from shared.testing.signals import eventually, stays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMMANDS = "stock.commands.v1"
LEVELS = "stock.levels.v1"


@pytest.fixture(autouse=True)
async def running(shop: Any) -> AsyncIterator[None]:
    """stock-0 and stock-1 run, and the invariants hold after each test."""
    await shop.start(0, 1)
    yield
    await shop.check()


async def test_f15_a_do_and_its_undo_race_on_two_instances(shop: Any) -> None:
    """The undo comes under another key: on another partition, and half of them elsewhere."""
    products = await shop.put(1_000, count=3)
    ids = [new_id("o") for _ in range(150)]
    dos = [reserve_stock(one, items={products[at % 3]: 2}) for at, one in enumerate(ids)]
    undos = [release_stock(one) for one in ids]
    mixed = []
    for at, (do, undo) in enumerate(zip(dos, undos, strict=True)):
        pair = [Record(do.to_bytes(), do.order_id), Record(undo.to_bytes(), new_id("elsewhere"))]
        mixed += pair if at % 2 else pair[::-1]
    await shop.topics.publish(COMMANDS, mixed)
    done, undone = await shop.verdicts(dos), await shop.verdicts(undos)
    outcomes: Counter[tuple[str, str]] = Counter()
    for reply, release in zip(done, undone, strict=True):
        if isinstance(reply, StockReserved):
            outcomes["undone", release.effect] += 1
        else:
            assert isinstance(reply, StockRefused)
            assert reply.reason is StockRefusal.ALREADY_RELEASED
            outcomes["tombstone", release.effect] += 1
    assert set(outcomes) <= {("undone", "undone"), ("tombstone", "nothing")}
    assert len(outcomes) == 2, f"one side won always, which proves little: {outcomes}"
    for product in products:
        assert await shop.counters(product) == (1_000, 0, 0, 1_000)


async def test_f45_nine_orders_in_ten_on_one_product_do_not_bring_it_down(shop: Any) -> None:
    products = await shop.put(100_000, count=10)
    took_s = {}
    for name, share in (("even", 0), ("hot", 9)):
        ids = [new_id("o") for _ in range(2_000)]
        commands = [
            reserve_stock(one, items={products[0 if at % 10 < share else at % 10]: 1})
            for at, one in enumerate(ids)
        ]
        started_at = asyncio.get_running_loop().time()
        await shop.publish(*commands)
        replies = await shop.verdicts(commands, within_s=60)
        took_s[name] = asyncio.get_running_loop().time() - started_at
        assert all(isinstance(reply, StockReserved) for reply in replies)
    # two instances fold on the same row all the time; they never do much worse than on ten
    assert took_s["hot"] < 4 * took_s["even"] + 3, took_s


async def test_one_instance_sends_the_levels_and_they_end_true(shop: Any) -> None:
    products = await shop.put(500, count=4)
    commands = [reserve_stock(new_id("o"), items={products[at % 4]: 1}) for at in range(400)]
    await shop.publish(*commands)
    await shop.verdicts(commands)
    await eventually(lambda: differences(shop, products), accept=lambda found: not found)
    sent = [await shop.metric("stock_levels_published_total", number=number) for number in range(2)]
    assert sorted(count > 0 for count in sent) == [False, True], sent
    versions = Counter(
        one.message.level_id for one in await shop.topics.read(LEVELS) if one.key in products
    )
    assert set(versions.values()) == {1}, "nothing is sent twice"


async def differences(shop: Any, products: list[str]) -> list[str]:
    """The products whose last level on the feed is not what the database says."""
    levels: dict[str, StockLevel] = await shop.levels()
    wrong = []
    for product in products:
        level = levels.get(product)
        if level is None or (
            level.available, level.reserved, level.sold, level.received,
        ) != await shop.counters(product):  # fmt: skip
            wrong.append(product)
    return wrong


async def test_f39_who_is_frozen_longer_than_its_session_loses_what_it_holds(shop: Any) -> None:
    """In mid-chunk, with ids and rows locked: Postgres frees them, the other takes the partitions,
    and what the frozen one writes later is a duplicate. The feed changes hands too."""
    (lamp,) = await shop.put(50)
    commands = [reserve_stock(new_id("o"), items={lamp: 1}) for _ in range(60)]
    frozen, other = shop.instance(0), shop.instance(1)
    async with shop.lock_held(lamp):
        await shop.publish(*commands)
        await shop.waits_for_lock(0)
        known = await shop.metric("inbox_duplicates_total", number=0, group="stock")
        frozen.freeze()
    # its backend gets the lock now, and nobody to go on with
    first = await shop.verdicts(commands, within_s=60)
    assert Counter(map(type, first)) == {StockReserved: 50, StockRefused: 10}
    await eventually(lambda: differences(shop, [lamp]), accept=lambda found: not found, within_s=20)
    frozen.thaw()
    await frozen.wait_ready(within_s=60)
    await shop.rest()
    assert other.is_running
    late = await shop.metric("inbox_duplicates_total", number=0, group="stock") - known
    assert late > 0, "its chunk was run again, and the inbox knew it"
    assert await shop.verdicts(commands) == first
    assert await shop.counters(lamp) == (0, 50, 0, 50)
    # nothing late comes from the one that was away
    await stays(lambda: differences(shop, [lamp]), for_s=1.0, accept=lambda found: not found)


async def test_f38_members_come_and_go_and_every_command_has_one_verdict(shop: Any) -> None:
    products = await shop.put(10_000, count=5)
    commands = []
    over = asyncio.Event()

    async def orders() -> None:
        """A trickle of orders until the members have settled."""
        while not over.is_set():
            batch = [reserve_stock(new_id("o"), items={products[at % 5]: 1}) for at in range(20)]
            commands.extend(batch)
            await shop.publish(*batch)
            await asyncio.wait([asyncio.create_task(over.wait())], timeout=0.1)

    work = asyncio.create_task(orders())
    for number in (2, 1, 2, 0, 1):
        instance = shop.instance(number)
        if instance.is_running:
            assert await instance.terminate() == 0
        else:
            await instance.start(ready_within_s=60)
    await shop.start(0, 1, 2)
    over.set()
    await work
    replies = await shop.verdicts(commands, within_s=60)
    assert all(isinstance(reply, StockReserved) for reply in replies)
    assert len(replies) >= 200
    assert await shop.instance(2).terminate() == 0
