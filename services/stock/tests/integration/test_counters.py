"""The scripts on a real server: what they admit, what they remember, and when they are closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.audit import Source
from shared.audit import counters as audited
from shared.contracts.stock import WhenRedisDown
from shared.redis import RedisAwayError
from shared.testing.proxy import Proxy
from stock.counters import HotCounters, Level, Move, Take, TakeLine
from stock.records import Fence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from shared.testing.databases import Database
    from shared.testing.valkey import Valkey

FENCE = Fence(1, 1)


def take(order: str, *, fences: Mapping[str, Fence] | None = None, **lines: int) -> Take:
    """What an order wants, under `FENCE` unless `fences` says otherwise of a product."""
    return Take(
        f"{order}:reserve:do",
        tuple(
            TakeLine(one, units, (fences or {}).get(one, FENCE), WhenRedisDown.POSTGRES)
            for one, units in lines.items()
        ),
    )


@pytest.fixture
async def counters(valkey: Valkey) -> AsyncIterator[HotCounters]:
    """P1 has 3 left, P2 has 2."""
    counters = HotCounters(valkey.url)
    await counters.write([("P1", FENCE, 3), ("P2", FENCE, 2)])
    yield counters
    await counters.close()


async def left(counters: HotCounters) -> list[int | None]:
    return [level and level.left for level in await counters.read(["P1", "P2"])]


async def test_all_lines_of_an_order_are_admitted_or_none(counters: HotCounters) -> None:
    orders = [take("a", P1=2, P2=1), take("b", P1=2, P2=2), take("c", P1=1), take("d", P1=1)]
    first, second, third, fourth = await counters.admit(orders)
    assert first.admitted
    assert second.short == (("P1", 1), ("P2", 1)), "every line that stands in the way"
    assert third.admitted, "who comes after one that was turned away is not"
    assert fourth.short == (("P1", 0),)
    assert await left(counters) == [0, 1]


async def test_f57_what_was_admitted_is_remembered(counters: HotCounters) -> None:
    order = take("a", P1=2)
    assert [one.before for one in await counters.admit([order, order])] == [False, True]
    (again,) = await counters.admit([order])
    assert (again.admitted, again.before) == (True, True)
    assert await left(counters) == [1, 2]


async def test_f57_a_lost_reply_is_asked_for_again(valkey: Valkey, counters: HotCounters) -> None:
    async with Proxy.before(valkey.url) as proxy:
        behind = HotCounters(proxy.through(valkey.url))
        try:
            await behind.admit([take("z", P1=1)])
            proxy.lose_reply_to(b"EVALSHA")
            (answer,) = await behind.admit([take("a", P1=1)])
        finally:
            await behind.close()
    assert proxy.stats.replies_lost == 1
    assert answer.admitted
    assert await left(counters) == [1, 2]


async def test_f56_a_server_that_forgets_the_scripts_all_the_time_is_unnoticed(
    valkey: Valkey, counters: HotCounters
) -> None:
    over = False

    async def forget() -> None:
        while not over:
            await valkey.client.script_flush()

    forgetting = [asyncio.create_task(forget()) for _ in range(2)]
    for number in range(300):
        await counters.write([("P1", FENCE, 1)])
        (answer,) = await counters.admit([take(f"o-{number}", P1=1)])
        assert answer.admitted
    over = True
    await asyncio.gather(*forgetting)


@pytest.mark.parametrize(
    "loss",
    [
        "flushed",
        "other server",
        "other epoch",
        "other generation",
        "never written",
        "no hash",
        "no number",
        "no changes",
        "too many changes",
    ],
)
async def test_f54_a_counter_that_is_not_surely_true_is_closed(
    valkey: Valkey, counters: HotCounters, loss: str
) -> None:
    """Neither sold out nor unknown: nobody is admitted, and nobody is turned away."""
    asked = {"P1": FENCE}
    match loss:
        case "flushed":
            await valkey.client.flushdb()
        case "other server":  # a restart that lost the last second shows all keys, and an old run
            await valkey.client.hset("{stock}:P1", "run", "0" * 40)
        case "other epoch":
            asked["P1"] = Fence(2, 1)
        case "other generation":
            asked["P1"] = Fence(1, 2)
        case "no hash":
            await valkey.client.set("{stock}:P1", "7")
        case "no changes":
            await valkey.client.hdel("{stock}:P1", "changes")
        case "too many changes":
            await valkey.client.hset("{stock}:P1", "changes", 2**63 - 1)
        case "no number":
            await valkey.client.hset("{stock}:P1", "left", "1.5")
        case _:
            await valkey.client.delete("{stock}:P1")
    answers = await counters.admit(
        [take("a", fences=asked, P1=9), take("b", fences=asked, P1=1, P2=1)]
    )
    assert [("P1" in one.closed, one.admitted, one.short) for one in answers] == [
        (True, False, ()), (True, False, ()),
    ]  # fmt: skip
    assert (await left(counters))[1] in (2, None), "others are read, whatever stands there"
    await counters.write([("P1", asked["P1"], 9)])
    (answer,) = await counters.admit([take("a", fences=asked, P1=9)])
    assert answer.admitted, "it is written over, whatever stood there"


async def test_what_is_taken_back_is_taken_back_once(counters: HotCounters) -> None:
    order = take("a", P1=2, P2=1)
    await counters.admit([order, take("b", P1=1)])
    for _ in range(2):
        await counters.take_back(order)
    assert await left(counters) == [2, 2]
    await counters.take_back(take("never", P1=1))
    assert await left(counters) == [2, 2]
    (again,) = await counters.admit([order])
    assert (again.admitted, again.before) == (True, False), "it may be admitted anew"


async def test_what_postgres_moved_is_followed_once(counters: HotCounters) -> None:
    for _ in range(2):
        await counters.move(Move("o-1:reserve:undo", "P1", FENCE, 4))
    await counters.move(Move("write-off", "P2", FENCE, -2))
    assert await left(counters) == [7, 0]


async def test_nothing_of_an_older_fence_touches_a_counter(counters: HotCounters) -> None:
    """It was written anew meanwhile, from a row that knows of it all."""
    order = take("a", P1=2)
    await counters.admit([order])
    newer = Fence(1, 2)
    await counters.write([("P1", newer, 3)])
    await counters.take_back(order)
    await counters.move(Move("late", "P1", FENCE, 5))
    assert await counters.read(["P1"]) == [Level(3, newer, 0)]
    (answer,) = await counters.admit([take("a", fences={"P1": newer}, P1=2)])
    assert not answer.before, "what was admitted before doesn't count any more"


async def test_a_write_whose_reply_was_lost_is_done_once(
    valkey: Valkey, counters: HotCounters
) -> None:
    """It comes again under its token, when the counter has been used already."""
    async with Proxy.before(valkey.url) as proxy:
        behind = HotCounters(proxy.through(valkey.url))
        try:
            await behind.read(["P1"])
            proxy.lose_reply_to(b"EVALSHA")
            await behind.write([("P1", FENCE, 50)])
        finally:
            await behind.close()
    assert proxy.stats.replies_lost == 1
    assert await counters.read(["P1"]) == [Level(50, FENCE, 0)]


async def test_a_cart_that_asks_again_under_another_fence_of_one_product_takes_the_other_once(
    counters: HotCounters,
) -> None:
    await counters.admit([take("a", P1=2, P2=1)])
    newer = {"P2": Fence(1, 3)}
    await counters.write([("P2", newer["P2"], 2)])
    (answer,) = await counters.admit([take("a", fences=newer, P1=2, P2=1)])
    assert (answer.admitted, answer.before) == (True, False)
    assert await left(counters) == [1, 1]
    (answer,) = await counters.admit([take("a", fences=newer, P1=2, P2=9)])
    assert answer.short == (("P2", 2),), "what it had is given back before"
    assert await left(counters) == [3, 2]


async def test_a_call_is_bounded_however_many_lines_there_are(
    counters: HotCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stock.counters.LINES_AT_ONCE", 3)
    orders = [take(f"o-{n}", P1=1, P2=1) for n in range(5)]
    answers = await counters.admit(orders)
    assert [one.admitted for one in answers] == [True, True, False, False, False]
    assert await left(counters) == [1, 0]


async def test_f55_counters_are_never_evicted_and_memories_may_be(
    valkey: Valkey, counters: HotCounters
) -> None:
    await counters.admit([take("a", P1=1)])
    times = {key: await valkey.client.ttl(key) for key in await valkey.client.keys("*")}
    assert times["{stock}:P1"] == -1
    assert 0 < times["{stock}:did:a:reserve:do"] <= 3_600


async def test_the_audit_finds_a_counter_that_differs_from_its_row(
    database: Database, valkey: Valkey, counters: HotCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audited, "MENDED_WITHIN_S", 0.2)
    sources = [Source("stock", "stock")]
    async with database.connection("stock") as connection:
        await connection.execute(
            "INSERT INTO product (product_id, name, price, currency, strategy, active,"
            " when_redis_down, available, reserved, sold, received, version)"
            " SELECT 'P' || n, '', 1, 'KRW', 'redis', 'redis', 'postgres', 4 - n, 0, 0, 4 - n, 1"
            " FROM generate_series(1, 2) AS n"
        )
    check = await audited.check_counters(database.operator_dsn, valkey.url, sources)
    assert (check.ok, check.looked_at) == (True, 2)
    await counters.admit([take("a", P2=1)])
    check = await audited.check_counters(database.operator_dsn, valkey.url, sources)
    (found,) = check.violations
    assert (found["key"], found["redis"]["left"], found["postgres"]["left"]) == (
        "{stock}:P2", "1", "2",
    )  # fmt: skip
    await valkey.client.set("{stock}:P1", "no counter")
    check = await audited.check_counters(database.operator_dsn, valkey.url, sources)
    assert "WRONGTYPE" in check.violations[0]["redis"]
    check = await audited.check_counters(database.operator_dsn, "redis://127.0.0.1:1", sources)
    assert check.error.startswith("Redis at REDIS_URL (127.0.0.1:1) can't be asked: Connection")


async def test_f60_away_is_said_soon(valkey: Valkey) -> None:
    async with Proxy.before(valkey.url) as proxy:
        behind = HotCounters(proxy.through(valkey.url))
        try:
            await behind.write([("P1", FENCE, 3)])
            await proxy.refuse()
            proxy.cut()
            with pytest.raises(RedisAwayError):
                await behind.admit([take("a", P1=1)])
            await proxy.accept()
            (answer,) = await behind.admit([take("a", P1=1)])
            assert answer.admitted
        finally:
            await behind.close()
