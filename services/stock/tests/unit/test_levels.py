"""Which levels are sent, and by whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import pytest

from stock.levels import LEVELS_AT_ONCE, LevelFeed, due

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


def test_a_pass_is_bounded() -> None:
    rows = [row(f"P{number}", 1) for number in range(LEVELS_AT_ONCE + 1)]
    assert len(due(rows, {})) == LEVELS_AT_ONCE


LEASE_S = 3.0


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
        self.levels = [row("P1", 1), row("P2", 1)]

    def acquire(self, *, timeout: float) -> FakePool:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch(self, _: str) -> list[Any]:
        return list(self.levels)


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
    feed = LevelFeed(pool, lease, publisher, lease_s=LEASE_S)  # type: ignore[arg-type]
    return feed, lease, pool, publisher


Parts = tuple[LevelFeed, FakeLease, FakePool, FakePublisher]


async def test_what_changed_is_sent_once(parts: Parts) -> None:
    feed, _, pool, publisher = parts
    assert await feed.run_once() == 2
    assert await feed.run_once() == 0
    pool.levels[1] = row("P2", 9)
    assert await feed.run_once() == 1
    assert publisher.versions() == [("P1", 1), ("P2", 1), ("P2", 9)]


async def test_who_does_not_hold_the_lease_is_silent_and_a_new_holder_sends_all(
    parts: Parts,
) -> None:
    feed, lease, pool, publisher = parts
    await feed.run_once()
    lease.token = None
    pool.levels[0] = row("P1", 2)
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
