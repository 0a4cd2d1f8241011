"""What is kept in the process: for how long, loaded by whom, and what is shown where stock is
away."""

from __future__ import annotations

import asyncio
import math

import pytest

from shared.testing.signals import Gate
from storefront.problems import ProblemError, unavailable
from storefront.shelf import HOT_ASKS, REST_S, STALE_AT_MOST_S, Loaded, Shelf, Shown

KEEP_S, HOT_S = 300.0, 60.0


class Rig:
    """A shelf whose loads are counted, held and failed at will."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.since_s = 0.0
        self.loads: list[tuple[str, float]] = []
        self.gate: Gate | None = None
        self.away = False
        self.shelf: Shelf[str, str] = Shelf(
            "test", self.load, lambda _: self.since_s,
            at_most=3, hot_s=HOT_S, clock=lambda: self.now_s,
        )  # fmt: skip

    async def load(self, key: str, age_s: float) -> Loaded[str]:
        began_s = self.now_s
        self.loads.append((key, age_s))
        value = f"{key}{len(self.loads)}"
        if self.gate is not None:
            await self.gate.stop()
        if self.away:
            raise unavailable("away", reason="stock_away")
        return Loaded(value, began_s, KEEP_S)

    async def ask(self, key: str = "a") -> Shown[str]:
        return await self.shelf.get(key, KEEP_S)

    async def value(self, key: str = "a") -> str:
        return (await self.ask(key)).value


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_crowd_makes_one_load_and_none_of_it_can_stop_it(rig: Rig) -> None:
    rig.gate = Gate()
    crowd = [asyncio.create_task(rig.value()) for _ in range(1_000)]
    await rig.gate.reached()
    crowd[0].cancel()
    rig.gate.open()
    assert set(await asyncio.gather(*crowd[1:])) == {"a1"}
    assert rig.loads == [("a", KEEP_S)]


async def test_before_anything_is_heard_a_crowd_makes_one_load(rig: Rig) -> None:
    rig.since_s = math.inf
    rig.gate = Gate()
    rig.gate.open()
    assert set(await asyncio.gather(*(rig.value() for _ in range(9)))) == {"a1"}
    assert await rig.value() == "a2"


async def test_what_is_put_during_a_load_is_loaded_again(rig: Rig) -> None:
    """Once the old load has ended: however often it is put, one load runs, and one waits."""
    gate = rig.gate = Gate()
    asked = []
    for _ in range(9):
        asked.append(asyncio.create_task(rig.value()))
        await gate.reached()
        for _ in range(3):  # as long as a load takes to begin
            await asyncio.sleep(0)
        rig.now_s += 1
        rig.since_s = rig.now_s
    assert rig.loads == [("a", KEEP_S)]
    gate.open()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*asked) == ["a1"] + ["a2"] * 8
        assert await rig.value() == "a2"
    assert len(rig.loads) == 2


async def test_what_waits_to_be_loaded_is_not_where_stock_is_away(rig: Rig) -> None:
    gate = rig.gate = Gate()
    early = asyncio.create_task(rig.value())
    await gate.reached()
    rig.now_s += 1
    rig.since_s = rig.now_s
    late = asyncio.create_task(rig.value())
    await asyncio.sleep(0)
    rig.away = True
    gate.open()
    found = await asyncio.gather(early, late, return_exceptions=True)
    assert [type(one) for one in found] == [ProblemError] * 2
    assert len(rig.loads) == 1
    rig.away = False
    rig.now_s += REST_S
    assert await rig.value() == "a2"


async def test_a_load_that_was_outdated_when_it_ended_is_not_shown_again(rig: Rig) -> None:
    gate = rig.gate = Gate()
    early = asyncio.create_task(rig.value())
    await gate.reached()
    rig.now_s += 1
    rig.since_s = rig.now_s
    gate.open()
    assert await early == "a1"
    assert await rig.value() == "a2"


async def test_what_few_ask_for_lives_its_whole_time(rig: Rig) -> None:
    for after_s, value in ((0, "a1"), (HOT_S, "a1"), (KEEP_S - 1, "a1"), (KEEP_S, "a2")):
        rig.now_s = 1_000 + after_s
        assert await rig.value() == value


@pytest.mark.parametrize(("asks", "value"), [(HOT_ASKS, "a1"), (HOT_ASKS + 1, "a2")])
async def test_what_many_ask_for_lives_a_short_time(rig: Rig, asks: int, value: str) -> None:
    for _ in range(asks):  # the first of them loads
        await rig.value()
    rig.now_s += HOT_S - 1
    assert await rig.value() == "a1"
    rig = Rig()
    for _ in range(asks):
        await rig.value()
    rig.now_s += HOT_S
    assert await rig.value() == value
    assert [age_s for _, age_s in rig.loads] == [KEEP_S, HOT_S][: len(rig.loads)]


async def test_what_was_cool_at_first_becomes_hot(rig: Rig) -> None:
    await rig.value()
    rig.now_s += HOT_S
    for _ in range(HOT_ASKS + 1):
        assert await rig.value() == "a1"
    rig.now_s += HOT_S
    assert await rig.value() == "a2"


async def test_what_is_asked_for_now_and_then_never_becomes_hot(rig: Rig) -> None:
    while rig.now_s < 1_000 + KEEP_S:
        for _ in range(HOT_ASKS // 2):
            assert await rig.value() == "a1"
        rig.now_s += HOT_S
    assert await rig.value() == "a2"


async def test_without_stock_the_old_is_shown_for_a_time(rig: Rig) -> None:
    await rig.value()
    rig.away = True
    rig.now_s += KEEP_S + 5
    assert await rig.ask() == ("a1", KEEP_S + 5, 5)
    await rig.ask()
    assert len(rig.loads) == 2, "stock is left alone for a while"
    rig.now_s += REST_S
    await rig.ask()
    assert len(rig.loads) == 3
    rig.now_s = 1_000 + STALE_AT_MOST_S + 1
    with pytest.raises(ProblemError):
        await rig.ask()
    rig.away = False
    rig.now_s += REST_S
    assert await rig.ask() == ("a5", 0, 0)


async def test_without_stock_what_is_outdated_is_past_its_time_at_once(rig: Rig) -> None:
    await rig.value()
    rig.away = True
    rig.now_s += 7
    rig.since_s = rig.now_s
    assert await rig.ask() == ("a1", 7, 7)


async def test_those_asked_for_last_are_kept(rig: Rig) -> None:
    for key in "abcad":
        await rig.value(key)
    assert [key for key, _ in rig.loads] == ["a", "b", "c", "d"]
    for key in "acdb":
        await rig.value(key)
    assert [key for key, _ in rig.loads] == ["a", "b", "c", "d", "b"]
