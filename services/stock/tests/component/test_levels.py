"""What others see of the counters: levels, and what runs low.

Who joins the feed at any moment ends with the true levels, by the steps on the page about stock.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.contracts.reading import reader_of
from shared.contracts.stock import StockLevel
from shared.contracts.topics import PARTITIONS, TOPICS
from shared.testing.builders import commit_stock, new_id, release_stock, reserve_stock
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.contracts.base import Message

LEVELS = "stock.levels.v1"
EVENTS = "stock.events.v1"
PRODUCTS = 30
PAGE = 7
ROWS = "SELECT product_id, available, reserved, sold, received, version FROM product"


class Reader:
    """Subscribes, takes the snapshot, and keeps the highest version of each product."""

    def __init__(self, shop: Any) -> None:
        self.levels: dict[str, StockLevel] = {}
        self.pages = 0
        self.from_feed = 0
        """Levels of the feed that were newer than the snapshot's."""
        self._reader = reader_of(TOPICS[LEVELS])
        connection = shop.topics.connection
        self._places = [
            TopicPartition(connection.named(LEVELS), number) for number in range(PARTITIONS)
        ]
        self._consumer = AIOKafkaConsumer(**connection.client_options())

    async def subscribe(self) -> Self:
        """What is published from now on is read, whenever it is asked for."""
        await self._consumer.start()
        self._consumer.assign(self._places)
        await self._consumer.seek_to_end(*self._places)
        for place in self._places:
            await self._consumer.position(place)
        return self

    async def take_snapshot(
        self, admin: httpx.AsyncClient, between: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        """All pages; `between` is done after the first."""
        after: dict[str, str] = {}
        while True:
            answer = await admin.get("/levels", params={"limit": str(PAGE), **after})
            assert answer.status_code == 200, answer.text
            self.pages += 1
            for level in answer.json()["levels"]:
                self._keep(StockLevel.model_validate_json(httpx.Response(200, json=level).content))
            if answer.json()["next"] is None:
                return
            after = {"after": answer.json()["next"]}
            if between is not None and self.pages == 1:
                await between()

    async def follow(self) -> None:
        """Take what the feed has by now."""
        records = await self._consumer.getmany(timeout_ms=100)
        for record in (record for records_ in records.values() for record in records_):
            level = self._reader.read(record.value)
            assert isinstance(level, StockLevel), level
            self.from_feed += self._keep(level)

    async def version_of(self, product_id: str) -> int:
        await self.follow()
        return self.levels[product_id].version

    def _keep(self, level: StockLevel) -> bool:
        known = self.levels.get(level.product_id)
        if known is not None and known.version >= level.version:
            return False
        self.levels[level.product_id] = level
        return True

    def shows(self) -> dict[str, tuple[int, ...]]:
        return {
            one.product_id: (one.available, one.reserved, one.sold, one.received, one.version)
            for one in self.levels.values()
        }

    async def close(self) -> None:
        await self._consumer.stop()


async def holder(shop: Any) -> int:
    """The number of the instance that holds the lease of the feed."""
    async with shop.database.connection("stock") as connection:
        name: str = await connection.fetchval("SELECT holder FROM lease WHERE name = $1", LEVELS)
    return int(name.removeprefix("stock-"))


async def table(shop: Any) -> dict[str, tuple[int, ...]]:
    async with shop.database.connection("stock") as connection:
        return {row[0]: tuple(row)[1:] for row in await connection.fetch(ROWS)}


async def test_f34_who_joins_at_any_moment_ends_with_the_true_levels(shop: Any) -> None:
    """Orders flow, and the holder of the feed is killed between two pages of a snapshot. Some
    products are quiet: the snapshot alone tells of them, and the feed alone of the one that moves
    once its page is taken."""
    await shop.start(0, 1)
    products = sorted(await shop.put(100_000, count=PRODUCTS))
    once, busy = products[0], products[PRODUCTS // 2 :]
    reserves: list[Message] = []
    over = asyncio.Event()

    async def move_once() -> None:
        command = reserve_stock(new_id("o"), items={once: 1})
        await shop.publish(command)
        await eventually(shop.levels, accept=lambda levels: levels[once].version == 2)

    async def orders() -> None:
        """What is reserved is sold or released at once."""
        while not over.is_set():
            ids = [new_id("o") for _ in range(2 * len(busy))]
            dos = [reserve_stock(o, items={busy[at % len(busy)]: 1}) for at, o in enumerate(ids)]
            ends = [commit_stock(o) if at % 3 else release_stock(o) for at, o in enumerate(ids)]
            reserves.extend(dos)
            await shop.publish(*dos, *ends)
            await asyncio.wait([asyncio.create_task(over.wait())], timeout=0.2)

    flow = asyncio.create_task(orders())
    await eventually(shop.levels, accept=lambda levels: len(levels) >= PRODUCTS)
    killed = await holder(shop)
    readers = [Reader(shop) for _ in range(4)]
    async with shop.instance(1 - killed).admin() as admin:
        for reader, between in zip(
            readers, (None, move_once, shop.instance(killed).kill, None), strict=True
        ):
            await reader.subscribe()
            await reader.take_snapshot(admin, between)
            if between == move_once:
                # a new holder would send every level again, and hide that this one was missed
                await eventually(partial(reader.version_of, once), accept=lambda found: found == 2)
        await eventually(lambda: holder(shop), accept=lambda now: now != killed, within_s=20)
        late = await Reader(shop).subscribe()
        readers.append(late)
        await late.take_snapshot(admin)
    await shop.start(killed)
    over.set()
    await flow
    await shop.verdicts(reserves, within_s=60)
    await shop.rest()
    rows = await table(shop)
    for reader in readers:

        async def differences(reader: Reader = reader) -> dict[str, Any]:
            await reader.follow()
            shown = reader.shows()
            return {key: (shown.get(key), rows[key]) for key in rows if shown.get(key) != rows[key]}

        await eventually(differences, accept=lambda found: not found, within_s=20)
        assert set(reader.shows()) == set(rows)
        assert reader.pages >= PRODUCTS // PAGE
        assert reader.from_feed >= len(busy), "the feed told nothing that the snapshot didn't"
        await reader.close()
    await shop.check()


async def test_a_product_and_its_level_are_told(shop: Any) -> None:
    await shop.start(0)
    (lamp,) = await shop.put(50, name="Lamp", price=250, max_per_order=4)
    command = reserve_stock(new_id("o"), items={lamp: 3})
    await shop.publish(command)
    await shop.verdicts([command])
    async with shop.instance(0).admin() as admin:
        level = (await admin.get(f"/levels/{lamp}")).json()
        product = (await admin.get(f"/products/{lamp}")).json()
    counters = {"available": 47, "reserved": 3, "sold": 0, "received": 50, "version": 2}
    assert {key: level[key] for key in counters} == counters
    assert level["type"] == "StockLevel"
    assert product == counters | {
        "productId": lamp, "name": "Lamp", "price": 250, "currency": "KRW",
        "strategy": "optimistic", "activeStrategy": "optimistic", "whenRedisDown": "postgres",
        "maxPerOrder": 4, "lowStockUnits": 10,
    }  # fmt: skip


async def test_a_product_that_runs_low_is_told_and_counted(shop: Any) -> None:
    await shop.start(0)
    lamp, chair = await shop.put(12, count=2)
    already_low = await shop.metric("stock_low_products")
    commands = [reserve_stock(new_id("o"), items={lamp: 1}) for _ in range(6)]
    for command in commands:
        await shop.publish(command)
        await shop.verdicts([command])
    (record,) = await shop.topics.wait_for(EVENTS, lambda one: one.json["type"] == "StockLow")
    assert record.key == lamp
    assert (record.message.available, record.message.threshold) == (10, 10)
    await eventually(
        lambda: shop.metric("stock_low_products"),
        accept=lambda count: count == already_low + 1,
        within_s=20,
    )
    told = [one for one in await shop.topics.read(EVENTS) if one.json["type"] == "StockLow"]
    assert [one.key for one in told] == [lamp]
    assert await shop.counters(chair) == (12, 0, 0, 12)
