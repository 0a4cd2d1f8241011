"""Which levels are sent, and by whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest

from stock.levels import LEVELS_AT_ONCE, LevelFeed, due, queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.kafka.publisher import Record


def row(product_id: str, version: int) -> Any:
    return {
        "product_id": product_id, "available": 1, "reserved": 2, "sold": 3, "received": 6,
        "version": version,
    }  # fmt: skip


def test_only_changed_versions_are_due() -> None:
    rows = [row("P1", 3), row("P2", 5), row("P3", 1)]
    assert [one["product_id"] for one in due(rows, {"P1": 3, "P2": 4})] == ["P2", "P3"]


LEASE_S = 3.0
COMPARE_S = 60.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Moves by half a lease with each look at it, so that every pass asks for the lease."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += LEASE_S / 2
        return self.now_s


class FakeLease:
    def __init__(self) -> None:
        self.token: int | None = 1
        self.raised = 0

    async def take(self) -> int | None:
        return self.token

    async def acted_late(self) -> None:
        self.raised += 1


class FakePool:
    """Gives out itself, as pool, as connection and as what `async with` needs."""

    def __init__(self) -> None:
        self.versions = {"P1": 1, "P2": 1}
        self.movements: list[tuple[datetime, str]] = []
        self.open_since = START
        self.read: list[list[str]] = []

    def move(self, product_id: str, version: int, at: datetime | None = None) -> None:
        self.versions[product_id] = version
        self.movements.append((at or self.open_since, product_id))

    def acquire(self, **_: float) -> FakePool:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetchval(self, sql: str, _: float) -> datetime:
        assert sql == queries.movements_open_since.sql
        self.open_since += timedelta(seconds=1)
        return self.open_since

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        if sql == queries.moved_since.sql:
            (since,) = arguments
            ids = sorted({product_id for at, product_id in self.movements if at >= since})
        elif sql == queries.read_versions.sql:
            after, products = arguments
            ids = sorted(one for one in self.versions if one > after)[:products]
        else:
            (ids,) = arguments
            self.read.append(ids)
        return [row(one, self.versions[one]) for one in ids]


class FakePublisher:
    def __init__(self) -> None:
        self.sent: list[Record] = []
        self.error: Exception | None = None
        self.stands_still: Callable[[], None] = lambda: None

    async def publish(self, records: list[Record]) -> None:
        self.stands_still()
        if self.error is not None:
            raise self.error
        self.sent.extend(records)

    def versions(self) -> list[tuple[str, int]]:
        bodies = [json.loads(record.value or b"") for record in self.sent]
        self.sent.clear()
        return [(body["productId"], body["version"]) for body in bodies]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("stock.levels.time.monotonic", clock)
    return clock


@pytest.fixture
def parts(clock: Clock) -> tuple[LevelFeed, FakeLease, FakePool, FakePublisher]:
    lease, pool, publisher = FakeLease(), FakePool(), FakePublisher()
    feed = LevelFeed(
        pool, lease, publisher,  # type: ignore[arg-type]
        lease_s=LEASE_S, compare_s=COMPARE_S,
    )  # fmt: skip
    return feed, lease, pool, publisher


Parts = tuple[LevelFeed, FakeLease, FakePool, FakePublisher]


async def test_what_changed_is_sent_once(parts: Parts) -> None:
    feed, _, pool, publisher = parts
    assert await feed.run_once() == 2
    assert await feed.run_once() == 0
    pool.move("P2", 9)
    assert await feed.run_once() == 1
    assert await feed.run_once() == 0
    assert publisher.versions() == [("P1", 1), ("P2", 1), ("P2", 9)]


async def test_who_does_not_hold_the_lease_is_silent_and_a_new_holder_sends_all(
    parts: Parts,
) -> None:
    feed, lease, pool, publisher = parts
    await feed.run_once()
    lease.token = None
    pool.move("P1", 2)
    assert await feed.run_once() == 0
    lease.token = 2
    assert await feed.run_once() == 2
    assert publisher.versions() == [("P1", 1), ("P2", 1), ("P1", 2), ("P2", 1)]


async def test_what_was_not_acknowledged_is_sent_again(parts: Parts) -> None:
    feed, _, _, publisher = parts
    publisher.error = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        await feed.run_once()
    publisher.error = None
    assert await feed.run_once() == 2


async def test_who_published_past_its_lease_makes_the_holder_send_all_again(
    parts: Parts, clock: Clock
) -> None:
    """What it read before it stood still may be older than what its successor sent."""
    feed, lease, _, publisher = parts
    await feed.run_once()
    assert lease.raised == 0
    lease.token = 2

    def stand_still() -> None:
        clock.now_s += LEASE_S

    publisher.stands_still = stand_still
    await feed.run_once()
    assert lease.raised == 1

    publisher.stands_still = lambda: None
    publisher.versions()
    lease.token = 3
    await feed.run_once()
    assert publisher.versions() == [("P1", 1), ("P2", 1)]


async def test_a_pass_reads_what_moved_and_no_more(parts: Parts) -> None:
    feed, _, pool, _ = parts
    await feed.run_once()
    await feed.run_once()
    pool.move("P2", 2)
    await feed.run_once()
    assert pool.read == [["P1", "P2"], ["P2"]]


async def test_a_movement_that_commits_late_is_found(parts: Parts) -> None:
    """It has the time at which its transaction began, and was open when the pass before looked."""
    feed, _, pool, publisher = parts
    await feed.run_once()
    began_at = pool.open_since
    await feed.run_once()
    pool.open_since = began_at - timedelta(seconds=1)  # what the pass sees while it is open
    await feed.run_once()
    publisher.versions()
    pool.move("P1", 2, began_at)
    assert await feed.run_once() == 1
    assert publisher.versions() == [("P1", 2)]


async def test_what_changed_without_a_movement_is_found_by_the_comparison(
    parts: Parts, clock: Clock
) -> None:
    feed, _, pool, publisher = parts
    await feed.run_once()
    publisher.versions()
    pool.versions["P1"] = 2
    assert await feed.run_once() == 0
    clock.now_s += COMPARE_S
    assert await feed.run_once() == 1
    assert publisher.versions() == [("P1", 2)]


async def test_a_pass_is_bounded_and_the_next_ones_send_the_rest(parts: Parts) -> None:
    feed, _, pool, publisher = parts
    pool.versions = {f"P{number:05}": 1 for number in range(2 * LEVELS_AT_ONCE + 1)}
    assert await feed.run_once() == LEVELS_AT_ONCE
    for product_id in list(pool.versions):
        pool.move(product_id, 2)
    sent = [await feed.run_once() for _ in range(4)]
    assert max(sent) == LEVELS_AT_ONCE
    assert dict(publisher.versions()) == pool.versions


async def test_what_moves_while_a_new_holder_looks_through_all_is_not_missed(parts: Parts) -> None:
    """Behind the page that was compared already."""
    feed, _, pool, publisher = parts
    pool.versions = {f"P{number:05}": 1 for number in range(LEVELS_AT_ONCE + 1)}
    await feed.run_once()
    pool.move("P00000", 2)
    await feed.run_once()
    await feed.run_once()
    assert dict(publisher.versions()) == pool.versions
