"""Sales by every strategy, from Kafka to Kafka: instances die, and Redis is lost, full, away.

However it goes: exactly what there is is sold, no snapshot shows a negative number, and in the end
the counters are the rows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from shared.audit import Source
from shared.audit.counters import check_counters
from shared.contracts.stock import WhenRedisDown
from shared.testing.builders import (
    new_id,
    put_product,
    release_stock,
    reserve_stock,
    set_stock_strategy,
)
from shared.testing.signals import eventually
from shared.testing.valkey import claimed_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from local_stack import Environment, Stack
    from shared.testing.valkey import Valkey

ADMIN, EVENTS = "stock.admin.v1", "stock.events.v1"
STRATEGIES = ("optimistic", "pessimistic", "redis")
BUYERS, UNITS = 1_000, 100
ROUNDS = [
    pytest.param(2, id="default"),
    pytest.param(100, id="whole", marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
]


@pytest.fixture(scope="module")
async def valkey(environment: Environment) -> AsyncIterator[Valkey]:
    """A database number of the module's own."""
    async with claimed_database(environment.redis_url) as valkey:
        yield valkey


@pytest.fixture
async def sale(shop: Any, valkey: Valkey) -> AsyncIterator[Any]:
    """Three instances; the invariants hold after the test, those of the counters too."""
    await shop.start(0, 1, 2, REDIS_URL=valkey.url)
    async with watched(shop):
        yield shop
    await shop.check(within_s=120)
    sources = [Source("stock", "stock")]
    check = await check_counters(shop.database.operator_dsn, valkey.url, sources)
    assert check.ok, check


@asynccontextmanager
async def watched(shop: Any) -> AsyncIterator[None]:
    """No snapshot, taken again and again meanwhile, shows units that are not there."""
    over = False
    looks = 0

    async def watch() -> None:
        nonlocal looks
        async with shop.database.connection("operator") as connection:
            while not over:
                wrong = await connection.fetch(
                    "SELECT * FROM stock.product WHERE least(available, reserved, sold) < 0"
                    " OR available + reserved + sold <> received"
                )
                assert wrong == []
                looks += 1
                await asyncio.sleep(0.02)  # its pace, and not a wait for anything

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        over = True
        await watching
    assert looks > 2


async def decided(shop: Any, sale: str, state: str = "%") -> int:
    """How many orders of a sale have a verdict."""
    async with shop.database.connection("stock") as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM reservation"
                " WHERE starts_with(order_id, $1) AND state LIKE $2",
                f"{sale}-", state,
            )
        )  # fmt: skip


async def all_decided(shop: Any, sale: str, count: int) -> None:
    await eventually(
        lambda: decided(shop, sale),
        accept=lambda found: found == count,
        within_s=120,
        describe=f"every order of {sale} has a verdict",
    )


async def put(shop: Any, strategies: Sequence[str], units: int = UNITS, **fields: Any) -> list[str]:
    """New products, one of each of these strategies."""
    commands = [
        put_product(new_id("P"), quantity=units, strategy=one, **fields) for one in strategies
    ]
    await shop.topics.publish(ADMIN, commands)
    await shop.said(EVENTS, [command.command_id for command in commands])
    return [command.product_id for command in commands]


async def place(shop: Any, name: str, product: str, first: int, end: int) -> None:
    """Orders of one unit, from number `first` up to `end`."""
    await shop.publish(
        *(reserve_stock(f"{name}-{n}", items={product: 1}) for n in range(first, end))
    )


async def flush(valkey: Valkey) -> None:
    """Everything is gone, as soon as the server is back."""
    await eventually(valkey.client.flushdb, within_s=30)


async def configure(valkey: Valkey, name: str, value: str) -> None:
    """Another setting of the server, as soon as it is back."""
    await eventually(lambda: valkey.client.config_set(name, value), within_s=30)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("strategies", [*((one,) for one in STRATEGIES), STRATEGIES])
async def test_f63_a_crowd_gets_exactly_what_there_is_whoever_dies(
    sale: Any,
    strategies: tuple[str, ...],
    rounds: int,
    record_property: Callable[[str, object], None],
) -> None:
    """An instance is killed in each round, in the midst of it, and another one in the next. Where
    strategies are mixed, each cart wants one unit of each product, and gets all of them or none."""
    victims = itertools.cycle([sale.instance(number) for number in range(3)])
    in_mid_round = 0
    for turn in range(rounds):
        products = await put(sale, strategies)
        name = new_id("sale")
        orders = [
            reserve_stock(f"{name}-{n}", items=dict.fromkeys(products, 1)) for n in range(BUYERS)
        ]
        await sale.publish(*orders[: BUYERS // 2])
        victim = next(victims)
        await eventually(lambda name=name: decided(sale, name), within_s=60)  # type: ignore[misc]
        await victim.kill()
        in_mid_round += await decided(sale, name) < BUYERS // 2
        back = asyncio.create_task(victim.start(ready_within_s=120))
        await sale.publish(*orders[BUYERS // 2 :])
        await all_decided(sale, name, BUYERS)
        assert await decided(sale, name, "RESERVED") == UNITS, f"round {turn}"
        for product in products:
            assert await sale.counters(product) == (0, UNITS, 0, UNITS)
        await back
    record_property("rounds", rounds)
    record_property("killed in the midst of a round", in_mid_round)
    if rounds > 10:
        assert in_mid_round >= rounds // 4, "a death at rest proves little"


async def test_f54_flushed_killed_and_frozen_in_a_sale_every_unit_is_sold_once(
    sale: Any, stack: Stack, valkey: Valkey
) -> None:
    """Orders come and some go, while the server loses everything, dies, and stands still."""
    (product,) = await put(sale, ["redis"], 2_000)
    name = new_id("sale")

    async def faults() -> None:
        for turn in range(8):
            await sold_more(sale, name, 150)
            match turn % 4:
                case 0:
                    await flush(valkey)
                case 1:
                    await asyncio.to_thread(stack.kill, "valkey")
                    await asyncio.to_thread(stack.wait_healthy, "valkey")
                case 2:
                    os.kill(int(stack.env()["PID_VALKEY"]), signal.SIGSTOP)
                    await sold_more(sale, name, 50)
                    os.kill(int(stack.env()["PID_VALKEY"]), signal.SIGCONT)
                case _:
                    await flush(valkey)
                    await valkey.client.script_flush()

    losing = asyncio.create_task(faults())
    placed = 0
    while not losing.done():
        await sale.publish(
            *(reserve_stock(f"{name}-{placed + n}", items={product: 1}) for n in range(100))
        )
        placed += 100
        await all_decided(sale, name, placed)
        some = [release_stock(f"{name}-{n}") for n in range(placed - 100, placed, 4)]
        await sale.publish(*some)
    await losing
    await sale.topics.wait_drained("stock", within_s=60)
    available = (await sale.counters(product))[0]
    last = new_id("last")
    await place(sale, last, product, 0, available + 50)
    await all_decided(sale, last, available + 50)
    assert await sale.counters(product) == (0, 2_000, 0, 2_000), "every unit can still be sold"


async def sold_more(shop: Any, name: str, orders: int) -> None:
    """Returns once so many more orders have their verdict."""
    before = await decided(shop, name)
    await eventually(
        lambda: decided(shop, name),
        accept=lambda found: found >= before + orders,
        within_s=60,
        describe="the sale goes on",
    )


@pytest.mark.parametrize("policy", ["postgres", "closed"])
async def test_f60_while_redis_stands_still_each_product_has_its_policy(
    sale: Any, stack: Stack, policy: str
) -> None:
    (product,) = await put(sale, ["redis"], 50, when_redis_down=WhenRedisDown(policy))
    name = new_id("sale")
    await place(sale, name, product, 0, 10)
    await all_decided(sale, name, 10)
    assert (await sale.counters(product))[1] == 10
    await asyncio.to_thread(stack.hold, "valkey")
    try:
        await sale.publish(
            *(reserve_stock(f"{name}-{n}", items={product: 1}) for n in range(10, 30))
        )
        await all_decided(sale, name, 30)
        assert (await sale.counters(product))[1] == (30 if policy == "postgres" else 10)
    finally:
        await asyncio.to_thread(stack.release, "valkey")
        await asyncio.to_thread(stack.wait_healthy, "valkey")
    late = new_id("late")

    async def one_more() -> str:
        name = f"{late}-{random.getrandbits(40)}"
        await place(sale, name, product, 0, 1)
        await all_decided(sale, name, 1)
        async with sale.database.connection("stock") as connection:
            return str(await connection.fetchval(
                "SELECT coalesce(refusal ->> 'reason', state) FROM reservation WHERE order_id = $1",
                f"{name}-0",
            ))  # fmt: skip

    assert await eventually(one_more, accept=lambda said: said == "RESERVED", within_s=30)


async def test_f55_where_its_memory_is_full_postgres_decides(sale: Any, valkey: Valkey) -> None:
    (product,) = await put(sale, ["redis"], 60)
    name = new_id("sale")
    await place(sale, name, product, 0, 10)
    await all_decided(sale, name, 10)
    await configure(valkey, "maxmemory-policy", "noeviction")
    await configure(valkey, "maxmemory", "1mb")
    try:
        await sale.publish(
            *(reserve_stock(f"{name}-{n}", items={product: 1}) for n in range(10, 99))
        )
        await all_decided(sale, name, 99)
        assert await sale.counters(product) == (0, 60, 0, 60)
    finally:
        await configure(valkey, "maxmemory", "0")


async def test_f55_counters_outlive_what_may_be_evicted(sale: Any, valkey: Valkey) -> None:
    """Caches have a time to live and go first; with `volatile-ttl` counters never go."""
    (product,) = await put(sale, ["redis"], 60)
    name = new_id("sale")
    await place(sale, name, product, 0, 10)
    await all_decided(sale, name, 10)
    await configure(valkey, "maxmemory-policy", "volatile-ttl")
    used = (await valkey.client.info("memory"))["used_memory"]
    await configure(valkey, "maxmemory", str(used + 2_000_000))
    try:
        for number in range(3_000):
            await valkey.client.set(f"cache:{number}", "x" * 2_000, ex=300)
        evicted = (await valkey.client.info("stats"))["evicted_keys"]
        assert evicted > 500
        assert await valkey.client.hget(f"{{stock}}:{product}", "left") == "50"
        await sale.publish(
            *(reserve_stock(f"{name}-{n}", items={product: 1}) for n in range(10, 99))
        )
        await all_decided(sale, name, 99)
        assert await sale.counters(product) == (0, 60, 0, 60)
    finally:
        await configure(valkey, "maxmemory", "0")
        await configure(valkey, "maxmemory-policy", "noeviction")


async def test_a_switch_every_200_ms_during_a_sale_changes_nothing_in_the_sums(sale: Any) -> None:
    (product,) = await put(sale, ["optimistic"])
    name = new_id("sale")
    chosen: list[str] = []
    over = asyncio.Event()

    async def switch() -> None:
        for strategy in itertools.cycle(("redis", "pessimistic", "auto", "optimistic")):
            if over.is_set():
                return
            command = set_stock_strategy(product, strategy)
            await sale.topics.publish(ADMIN, [command])
            chosen.append(command.command_id)
            await asyncio.sleep(0.2)  # the pace of the switches, and not a wait for anything

    switching = asyncio.create_task(switch())
    placed = 0
    while len(chosen) < 20:
        await sale.publish(
            *(reserve_stock(f"{name}-{placed + n}", items={product: 1}) for n in range(50))
        )
        placed += 50
        await all_decided(sale, name, placed)
    over.set()
    await switching
    await sale.said(EVENTS, chosen)
    assert await decided(sale, name, "RESERVED") == min(UNITS, placed)
    assert await sale.counters(product) == (0, UNITS, 0, UNITS)
