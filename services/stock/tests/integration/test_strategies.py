"""Every strategy sells what there is, and no more: many instances, few units, anything lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.stock import (
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
    WhenRedisDown,
)
from shared.redis import STILL_PASSES, RedisAwayError
from shared.telemetry import metrics
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    put_product,
    release_stock,
    reserve_stock,
    set_stock_strategy,
)
from shared.testing.replicas import deliver
from shared.testing.signals import eventually
from stock.admitter import ASKS, Admitter
from stock.counters import HotCounters
from stock.records import Fence
from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.testing.valkey import Valkey
    from stock.admission import Admission

    from .conftest import Counters, MakeReplica, Replica

pytestmark = pytest.mark.usefixtures("checked")

STRATEGIES = ("optimistic", "pessimistic", "redis")
BUYERS, UNITS = 1_000, 100
INSTANCES = 4
CHUNK = 25


async def reconcile(stock: Replica) -> None:
    """Until every counter that is wrong has stood still for long enough."""
    for _ in range(STILL_PASSES + 2):
        await stock.reconciler.run_once()


async def counters_agree(stock: Replica, pool: Pool) -> None:
    """Invariant 9: the counters are the rows."""
    async with pool.acquire() as connection:
        rows = await Store(connection).hot_products()
    levels = await stock.admitter.counters.read([row.product_id for row in rows])
    assert [(level and (level.left, level.fence)) for level in levels] == [
        (row.available, row.fence) for row in rows
    ]


async def sale(
    replica: MakeReplica, orders: Sequence[Message], *, instances: int = INSTANCES
) -> list[Message]:
    """The orders in chunks over several instances at once; returns what was said of each."""
    chunks = [orders[start : start + CHUNK] for start in range(0, len(orders), CHUNK)]

    async def work(number: int) -> list[Message]:
        own = replica(number)
        return [one for chunk in chunks[number::instances] for one in await own.run(*chunk)]

    said = await asyncio.gather(*map(work, range(instances)))
    return [one for batch in said for one in batch]


def kinds(replies: Sequence[Message]) -> Counter[str]:
    return Counter(
        "reserved" if isinstance(one, StockReserved) else str(getattr(one, "reason", one.type))
        for one in replies
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_f63_a_crowd_gets_exactly_what_there_is(
    replica: MakeReplica, stock: Replica, counters: Counters, pool: Pool, strategy: str
) -> None:
    await stock.run(put_product("P001", quantity=UNITS, strategy=strategy))
    replies = await sale(replica, [reserve_stock(f"o-{n}") for n in range(BUYERS)])
    assert kinds(replies) == {"reserved": UNITS, "out_of_stock": BUYERS - UNITS}
    assert await counters() == (0, UNITS, 0, UNITS)
    await counters_agree(stock, pool)


async def test_carts_that_mix_strategies_are_all_or_nothing(
    replica: MakeReplica, stock: Replica, counters: Counters, pool: Pool
) -> None:
    """Whichever line falls short, units of the others stay where they were, counters included."""
    for strategy, units in zip(STRATEGIES, (60, 80, 70), strict=True):
        await stock.run(put_product(strategy, quantity=units, strategy=strategy))
    chance = random.Random(5)
    orders = [
        reserve_stock(f"o-{n}", items=dict.fromkeys(chance.sample(STRATEGIES, 2), 1))
        for n in range(300)
    ]
    replies = await sale(replica, orders)
    reserved = [one for one in replies if isinstance(one, StockReserved)]
    taken = Counter(line.product_id for one in reserved for line in one.items)
    for strategy, units in zip(STRATEGIES, (60, 80, 70), strict=True):
        assert await counters(strategy) == (units - taken[strategy], taken[strategy], 0, units)
    assert len(reserved) >= 90, "two of three products sell out, or one and both others with it"
    await counters_agree(stock, pool)


async def test_first_come_first_served_over_partitions(stock: Replica) -> None:
    """A chunk holds the messages of several partitions one after the other; who came first is
    told by their timestamps, and within a partition by their offsets."""
    await stock.run(put_product("P001", quantity=3, strategy="pessimistic"))
    arrivals = {"late": (0, 30), "later": (0, 5), "first": (1, 10), "second": (2, 20)}
    deliveries = [
        delivery._replace(received=delivery.received._replace(timestamp_ms=at_ms))
        for order, (partition, at_ms) in arrivals.items()
        for delivery in deliver(reserve_stock(order), partition=partition)
    ]
    replies = await stock.run_chunk(deliveries)
    won = [one.order_id for one in replies if isinstance(one, StockReserved)]
    assert won == ["first", "second", "late"], "`later` stays behind `late`, its partition's first"


async def test_who_waits_for_a_limited_product_is_served_in_turn(
    replica: MakeReplica, stock: Replica, pool: Pool
) -> None:
    """Instances queue before they fold, and the queue is served in its order."""
    await stock.run(put_product("P001", quantity=5, strategy="pessimistic"))
    replicas = [replica(number) for number in range(1, 8)]
    for each in replicas:
        await each.run(reserve_stock(f"learn-{id(each)}", items={"P001": 10}))
    async with pool.acquire() as admin, admin.transaction():
        await admin.execute("SELECT FROM product WHERE product_id = 'P001' FOR UPDATE")
        waiting = []
        for number, each in enumerate(replicas, 1):
            waiting.append(asyncio.create_task(each.run(reserve_stock(f"o-{number}"))))
            await lock_waiters(pool, number)
    replies = [(await task)[0] for task in waiting]
    assert [type(one) for one in replies] == [StockReserved] * 5 + [StockRefused] * 2


async def lock_waiters(pool: Pool, count: int) -> None:
    """Returns once so many statements wait for a lock."""
    await eventually(
        lambda: pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ),
        accept=lambda found: found == count,
        describe=f"{count} wait for the lock",
    )


async def test_a_switch_of_strategy_during_a_sale_changes_nothing_in_the_sums(
    replica: MakeReplica, stock: Replica, counters: Counters, pool: Pool
) -> None:
    await stock.run(put_product("P001", quantity=UNITS))
    over = asyncio.Event()
    switches = 0

    async def switch() -> None:
        nonlocal switches
        operator = replica(9)
        chance = random.Random(1)
        while not over.is_set():
            await operator.run(set_stock_strategy("P001", chance.choice((*STRATEGIES, "auto"))))
            switches += 1

    switching = asyncio.create_task(switch())
    replies: list[Message] = []
    while switches < 20:
        crowd = [reserve_stock(f"o-{len(replies) + n}") for n in range(200)]
        replies += await sale(replica, crowd)
    over.set()
    await switching
    assert kinds(replies) == {"reserved": UNITS, "out_of_stock": len(replies) - UNITS}
    assert await counters() == (0, UNITS, 0, UNITS)
    await stock.run(set_stock_strategy("P001", "redis"))
    await reconcile(stock)
    await counters_agree(stock, pool)


async def test_f54_flushed_again_and_again_every_unit_is_sold_once(
    replica: MakeReplica, stock: Replica, counters: Counters, pool: Pool, valkey: Valkey
) -> None:
    """Orders, releases and receipts, while the server forgets everything."""
    await stock.run(put_product("P001", quantity=UNITS, strategy="redis"))
    over = asyncio.Event()
    flushes = 0

    async def flush() -> None:
        nonlocal flushes
        while not over.is_set():
            await valkey.client.flushdb()
            flushes += 1
            await asyncio.sleep(0.01)  # the faults of this test, and not a wait for anything

    flushing = asyncio.create_task(flush())
    replies = await sale(replica, [reserve_stock(f"o-{n}") for n in range(80)])
    assert kinds(replies) == {"reserved": 80}
    released = await sale(replica, [release_stock(f"o-{n}") for n in range(0, 80, 2)])
    assert all(isinstance(one, StockReleased) for one in released)
    await stock.run(adjust_stock(delta=-10))
    replies = await sale(replica, [reserve_stock(f"p-{n}") for n in range(200)])
    over.set()
    await flushing
    assert flushes >= 10
    assert kinds(replies) == {"reserved": 50, "out_of_stock": 150}
    assert await counters() == (0, 90, 0, 90)
    await reconcile(stock)
    await counters_agree(stock, pool)


async def test_f59_units_that_were_admitted_and_never_taken_are_found(
    stock: Replica, replica: MakeReplica, pool: Pool, counters: Counters
) -> None:
    """A process died between Redis and Postgres, and its command never came back."""
    await stock.run(put_product("P001", quantity=10, strategy="redis"))
    await stock.run(reserve_stock("o-1"))
    (row,) = await hot(pool)
    dead = replica(1)
    await dead.run(reserve_stock("o-3"))
    answers = await dead.admitter.admit([reserve_stock("o-2", items={"P001": 8})])
    assert set(answers.takes) == {"o-2:reserve:do"}
    (refused,) = await stock.run(reserve_stock("o-4"))
    assert isinstance(refused, StockRefused), "until then they are kept for it"
    await reconcile(stock)
    await counters_agree(stock, pool)
    replies = await stock.run(*(reserve_stock(f"p-{n}") for n in range(9)))
    assert kinds(replies) == {"reserved": 8, "out_of_stock": 1}
    assert await counters() == (0, 10, 0, 10)
    # And should the command come back after all, it is asked again, and refused.
    assert (await hot(pool))[0] > row
    (late,) = await dead.run(reserve_stock("o-2", items={"P001": 8}))
    assert isinstance(late, StockRefused)


async def hot(pool: Pool) -> list[Fence]:
    async with pool.acquire() as connection:
        return [row.fence for row in await Store(connection).hot_products()]


async def test_f59_a_command_that_comes_back_was_admitted_already(
    stock: Replica, pool: Pool
) -> None:
    await stock.run(put_product("P001", quantity=10, strategy="redis"))
    await stock.run(reserve_stock("o-1"))
    again = reserve_stock("o-2", items={"P001": 9})
    for _ in range(3):  # it died between Redis and Postgres, three times
        admission = await stock.admitter.admit([again])
        assert again.command_id in admission.takes
    (reply,) = await stock.run(again)
    assert isinstance(reply, StockReserved)
    await counters_agree(stock, pool)


async def test_units_that_postgres_refused_go_back_to_their_counter(
    stock: Replica, pool: Pool
) -> None:
    """The counter said yes, a line without a counter said no; and a tombstone said no."""
    await stock.run(put_product("P001", quantity=5, strategy="redis"), put_product("P002"))
    await stock.run(reserve_stock("o-1", items={"P001": 1}), release_stock("o-2"))
    replies = await stock.run(
        reserve_stock("o-3", items={"P001": 4, "P002": 9_999}),
        reserve_stock("o-2", items={"P001": 4}),
        reserve_stock("o-4", items={"P001": 4}),
    )
    assert kinds(replies) == {"out_of_stock": 2, "already_released": 1}, "admitted in their turn"
    await counters_agree(stock, pool)
    (reply,) = await stock.run(reserve_stock("o-5", items={"P001": 4}))
    assert isinstance(reply, StockReserved)
    await stock.run(release_stock("o-5"), commit_stock("o-1"))
    await counters_agree(stock, pool)


async def test_a_crowd_that_is_turned_away_locks_nothing(
    stock: Replica, pool: Pool, counters: Counters
) -> None:
    """The row of a sold-out hot product is locked by somebody, and nobody waits for it."""
    await stock.run(put_product("P001", quantity=1, strategy="redis"))
    await stock.run(reserve_stock("o-0"))
    async with pool.acquire() as admin, admin.transaction():
        await admin.execute("SELECT FROM product WHERE product_id = 'P001' FOR UPDATE")
        crowd = [reserve_stock(f"o-{n}") for n in range(1, 200)]
        replies = await asyncio.wait_for(stock.run(*crowd), timeout=4.0)
    assert kinds(replies) == {"out_of_stock": 199}
    assert replies[0].details[0].requested == 1  # type: ignore[attr-defined]
    again = await stock.run(*crowd[:5])
    assert again == replies[:5], "the verdict is final, and said again"
    assert await counters() == (0, 1, 0, 1)


async def test_f59_what_is_missing_is_found_while_orders_are_paid_for(
    stock: Replica, replica: MakeReplica, counters: Counters
) -> None:
    """Each commit raises the row's version, and leaves what it has available as it is."""
    await stock.run(put_product("P001", quantity=100, strategy="redis"))
    await stock.run(*(reserve_stock(f"o-{n}") for n in range(50)))
    dead = replica(1)
    await dead.run(reserve_stock("o-50"))
    lost = [reserve_stock(f"lost-{n}") for n in range(49)]
    assert len((await dead.admitter.admit(lost)).takes) == 49
    assert isinstance((await stock.run(reserve_stock("p-0")))[0], StockRefused)
    for number in range(STILL_PASSES + 2):
        await stock.run(commit_stock(f"o-{number}"))
        await stock.reconciler.run_once()
    replies = await stock.run(*(reserve_stock(f"q-{n}") for n in range(50)))
    assert kinds(replies) == {"reserved": 49, "out_of_stock": 1}
    assert (await counters())[0] == 0


class LosesReply(HotCounters):
    """Counters whose `write` is done, and nobody hears of it."""

    async def write(self, levels: Any) -> None:
        await super().write(levels)
        raise RedisAwayError("the reply is lost")


@pytest.mark.parametrize("moved", ["reserve", "release"])
async def test_f54_a_counter_of_a_rebuild_that_failed_is_never_opened_by_what_comes_next(
    stock: Replica, replica: MakeReplica, pool: Pool, valkey: Valkey, moved: str
) -> None:
    await stock.run(put_product("P001", quantity=100, strategy="redis"))
    await stock.run(reserve_stock("o-0", items={"P001": 50}))
    await valkey.client.flushdb()
    reachable, loses = stock.admitter.counters, LosesReply(valkey.url)
    stock.admitter.counters = loses
    commands = {
        "reserve": reserve_stock("o-1", items={"P001": 30}),
        "release": release_stock("o-0"),
    }
    await stock.run(reserve_stock("o-2"), commands[moved])
    assert stock.admitter.reach.is_away
    await loses.close()
    stock.admitter.counters = reachable
    (row,) = await hot(pool)
    (level,) = await reachable.read(["P001"])
    assert level is None or level.fence != row, "nobody is admitted by what it says"
    await replica(1).run(reserve_stock("o-3"))
    await counters_agree(stock, pool)


async def test_a_counter_that_admits_what_is_not_there_is_void_at_once(
    stock: Replica, pool: Pool, valkey: Valkey
) -> None:
    await stock.run(put_product("P001", quantity=3, strategy="redis"))
    await stock.run(reserve_stock("o-0"))
    await valkey.client.hset("{stock}:P001", "left", "1000")
    replies = await stock.run(*(reserve_stock(f"o-{n}") for n in range(1, 9)))
    assert kinds(replies) == {"reserved": 2, "out_of_stock": 6}
    assert isinstance((await stock.run(reserve_stock("o-9")))[0], StockRefused)
    await counters_agree(stock, pool)


async def test_the_same_orders_have_the_same_verdicts_by_every_strategy(
    stock: Replica, replica: MakeReplica
) -> None:
    """What no row could serve takes nothing from a counter: who comes behind it is served."""
    said: dict[str, list[tuple[str, str]]] = {}
    for strategy in STRATEGIES:
        hot, cold = f"{strategy}-hot", f"{strategy}-cold"
        await stock.run(
            put_product(hot, quantity=20, strategy=strategy, max_per_order=5),
            put_product(cold, quantity=1),
        )
        await stock.run(reserve_stock(f"{strategy}-0", items={hot: 1}))
        carts = {"over": {hot: 9_999}, "unknown": {hot: 5, "P404": 1}, "short": {cold: 2}}
        carts |= {name: {hot: 5} for name in "abcd"} | {"e": {hot: 4}, "f": {hot: 1}}
        commands = [reserve_stock(f"{strategy}-{name}", items=carts[name]) for name in carts]
        replies = [*await stock.run(*commands[:4]), *await stock.run(*commands)]
        said[strategy] = [
            (str(one.order_id).removeprefix(strategy), *kinds([one]))  # type: ignore[attr-defined]
            for one in replies
        ]
    assert said["redis"] == said["pessimistic"] == said["optimistic"]
    assert Counter(what for _, what in said["redis"][4:]) == {
        "reserved": 4, "out_of_stock": 3, "over_order_limit": 1, "unknown_product": 1,
    }  # fmt: skip


async def test_f1_orders_that_come_again_after_an_hour_take_nothing_from_those_behind_them(
    stock: Replica, valkey: Valkey, pool: Pool
) -> None:
    await stock.run(put_product("P001", quantity=50, strategy="redis"))
    old = [reserve_stock(f"o-{n}") for n in range(40)]
    await stock.run(*old)
    await stock.run(*(release_stock(f"o-{n}") for n in range(40)))
    for key in await valkey.client.keys("{stock}:did:*"):
        await valkey.client.delete(key)
    replies = await stock.run(*old, *(reserve_stock(f"p-{n}") for n in range(50)))
    assert kinds(replies) == {"reserved": 90}
    await counters_agree(stock, pool)


async def test_what_was_answered_stands_where_another_counter_can_not_be_written(
    stock: Replica, valkey: Valkey
) -> None:
    await stock.run(
        *(put_product(one, quantity=3, strategy="redis", when_redis_down=WhenRedisDown.CLOSED)
          for one in ("P001", "P002"))
    )  # fmt: skip
    await stock.run(reserve_stock("o-0", items={"P001": 1, "P002": 1}))
    await valkey.client.delete("{stock}:P002")
    stock.admitter.counters = loses = LosesReply(valkey.url)
    replies = await stock.run(
        reserve_stock("o-1", items={"P001": 1}),
        reserve_stock("o-2", items={"P002": 1}),
        reserve_stock("o-3", items={"P001": 3}),
    )
    assert [*kinds(replies)] == ["reserved", "temporarily_unavailable", "out_of_stock"]
    await loses.close()


async def test_a_postgres_that_was_restored_is_behind_its_counters(
    stock: Replica, pool: Pool
) -> None:
    await stock.run(put_product("P001", quantity=10, strategy="redis"))
    await stock.run(reserve_stock("o-0"))
    await stock.admitter.counters.write([("P001", Fence(7, 60), 3)])
    (reply,) = await stock.run(reserve_stock("o-1"))
    assert isinstance(reply, StockReserved)
    await counters_agree(stock, pool)


class Unreachable(HotCounters):
    """The counters behind a port at which nobody listens."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/0")


async def test_f60_while_redis_is_away_each_product_has_its_policy(
    stock: Replica, replica: MakeReplica, counters: Counters, pool: Pool
) -> None:
    await stock.run(
        put_product("P001", quantity=10, strategy="redis"),
        put_product("P002", quantity=10, strategy="redis", when_redis_down=WhenRedisDown.CLOSED),
    )
    before = reserve_stock("o-0", items={"P001": 1, "P002": 1})
    assert isinstance((await stock.run(before))[0], StockReserved)
    reachable = stock.admitter.counters
    stock.admitter.counters = Unreachable()
    goes_on, shut = await stock.run(
        reserve_stock("o-1", items={"P001": 2}), reserve_stock("o-2", items={"P001": 1, "P002": 1})
    )
    assert isinstance(goes_on, StockReserved)
    assert isinstance(shut, StockRefused)
    assert shut.reason is StockRefusal.TEMPORARILY_UNAVAILABLE
    assert [line.product_id for line in shut.details] == ["P002"]
    await stock.run(release_stock("o-0"))
    assert stock.admitter.reach.is_away
    await stock.admitter.counters.close()

    stock.admitter.counters = reachable
    # Another instance saw nothing of it all: what it believes is void, and it asks again.
    (reply,) = await replica(1).run(reserve_stock("o-3", items={"P001": 8, "P002": 10}))
    assert isinstance(reply, StockReserved), "what was given back meanwhile is there to be sold"
    await reconcile(stock)
    assert not stock.admitter.reach.is_away
    await counters_agree(stock, pool)
    assert await counters("P001") == (0, 10, 0, 10)


async def test_who_is_admitted_in_vain_again_and_again_leaves_it_to_postgres(
    stock: Replica, pool: Pool, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instance can't reach Redis, and voids the counter between asking and fold."""
    await stock.run(put_product("P001", quantity=10, strategy="redis"))
    await stock.run(reserve_stock("o-0"))
    admit, asked = Admitter.admit, 0

    async def admit_and_void(self: Admitter, *arguments: Any, **how: Any) -> Admission:
        nonlocal asked
        admission = await admit(self, *arguments, **how)
        asked += 1
        await pool.execute("UPDATE product SET generation = generation + 1")
        return admission

    monkeypatch.setattr(Admitter, "admit", admit_and_void)
    (reply,) = await asyncio.wait_for(stock.run(reserve_stock("o-1")), timeout=30)
    assert isinstance(reply, StockReserved)
    assert asked == ASKS + 1
    monkeypatch.setattr(Admitter, "admit", admit)
    assert await counters() == (8, 2, 0, 10)
    await reconcile(stock)
    await counters_agree(stock, pool)


async def test_f48_all_strategies_at_once_never_deadlock(
    replica: MakeReplica, stock: Replica, pool: Pool
) -> None:
    """Carts in every order over products of every strategy, operators who switch them meanwhile."""
    products = [f"P{number:03}" for number in range(30)]
    await stock.run(
        *(
            put_product(key, quantity=60, strategy=STRATEGIES[number % 3])
            for number, key in enumerate(products)
        )
    )
    before = [metrics.RETRIES.labels(group, "deadlock")._value.get() for group in GROUPS]
    chance = random.Random(48)

    async def buy(number: int) -> None:
        own = replica(number)
        for turn in range(10):
            ids = [f"o-{number}-{turn}-{n}" for n in range(12)]
            carts = [
                reserve_stock(one, items=dict.fromkeys(chance.sample(products, 4), 1))
                for one in ids
            ]
            await own.run(*carts)
            await own.run(*(release_stock(one) for one in ids[::2]))

    async def operate() -> None:
        own = replica(9)
        for _ in range(15):
            chosen = chance.sample(products, 8)
            await own.run(*(set_stock_strategy(one, chance.choice(STRATEGIES)) for one in chosen))

    await asyncio.gather(*map(buy, range(4)), operate())
    assert [metrics.RETRIES.labels(group, "deadlock")._value.get() for group in GROUPS] == before
    await reconcile(stock)
    await counters_agree(stock, pool)


GROUPS = ("stock", "stock-requests")
