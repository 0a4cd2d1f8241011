"""What is remembered of the topics of stock, and what is outdated by them."""

from __future__ import annotations

import asyncio
import math

import pytest

from shared.contracts.stock import StockAdjusted
from shared.testing.heard import heard, level_heard, put_heard, record
from storefront.feed import EVENTS, LEVELS, Feed
from storefront.metrics import HEARD


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(clock: Clock) -> Feed:
    feed = Feed(clock, products_remembered=3)
    feed.follow()
    return feed


def version_of(feed: Feed, product_id: str) -> int | None:
    found = feed.level(product_id)
    return found and found.version


def test_the_highest_version_counts(feed: Feed) -> None:
    seen = []
    for version in (3, 2, 5, 4):
        feed.take_levels([level_heard("P001", version)])
        seen.append(version_of(feed, "P001"))
    assert seen == [3, 3, 5, 5]
    assert version_of(feed, "P002") is None


def test_the_highest_version_counts_also_before_anybody_looks(feed: Feed) -> None:
    feed.take_levels([level_heard("P001", version) for version in (6, 10, 9)])
    assert version_of(feed, "P001") == 10
    feed.take_levels([level_heard("P001", version) for version in (8, 11)])
    assert version_of(feed, "P001") == 11


def test_what_nobody_wants_is_not_read(feed: Feed) -> None:
    unreadable = HEARD.labels(LEVELS, "unreadable")
    before = unreadable._value.get()
    feed.take_levels([record(LEVELS, "P001", b"{")] * 5)
    assert unreadable._value.get() == before
    assert feed.level("P001") is None
    assert unreadable._value.get() == before + 1


def test_what_is_no_level_leaves_the_level_that_was(feed: Feed) -> None:
    feed.take_levels([level_heard("P001", 3)])
    assert version_of(feed, "P001") == 3
    feed.take_levels([record(LEVELS, "P001", b"{"), record(LEVELS, "P001", None)])
    assert version_of(feed, "P001") == 3


def test_a_put_outdates_its_product_and_all_pages(feed: Feed, clock: Clock) -> None:
    began_s = clock.now_s
    clock.now_s += 1
    adjusted = StockAdjusted(command_id="c-2", product_id="P001", delta=1, available=2)
    feed.take_events([heard(EVENTS, adjusted)])
    assert feed.current_since_s("P001") == feed.current_since_s() == began_s
    feed.take_events([put_heard("P001")])
    assert feed.current_since_s("P001") == feed.current_since_s() == clock.now_s
    assert feed.current_since_s("P002") == began_s
    assert feed.forgot_nothing_since_s() == began_s


def test_before_anything_is_heard_nothing_is_current(clock: Clock) -> None:
    feed = Feed(clock)
    assert feed.current_since_s("P001") == feed.current_since_s() == math.inf


@pytest.mark.parametrize("topic", [LEVELS, EVENTS])
def test_what_is_forgotten_is_told(feed: Feed, clock: Clock, topic: str) -> None:
    heard_s = {}
    for product_id in ("P001", "P002", "P001", "P003"):
        clock.now_s += 1
        heard_s[product_id] = clock.now_s
        if topic == LEVELS:
            feed.take_levels([level_heard(product_id, int(clock.now_s))])
        else:
            feed.take_events([put_heard(product_id)])
    assert feed.forgot_nothing_since_s() == 1_000
    clock.now_s += 1
    if topic == LEVELS:
        feed.take_levels([level_heard("P004", 1)])
    else:
        feed.take_events([put_heard("P004")])
    assert feed.forgot_nothing_since_s() == heard_s["P002"]


async def test_a_watcher_hears_of_each_product_once_until_it_looks(feed: Feed) -> None:
    with feed.watch(["P001", "P002"]) as some, feed.watch(None) as every:
        waiting = asyncio.create_task(every.next())  # type: ignore[arg-type]
        await asyncio.sleep(0)
        for version in (1, 2, 3):
            feed.take_levels([level_heard("P001", version), level_heard("P003", version)])
        assert list(await waiting) == ["P001", "P003"]
        assert list(await some.next()) == ["P001"]
        feed.take_levels([level_heard("P002", 1)])
        assert list(await some.next()) == ["P002"]
        assert list(await every.next()) == ["P002"]
    feed.take_levels([level_heard("P002", 2)])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await some.next()
