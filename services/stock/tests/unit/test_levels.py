"""Which levels are sent, and by whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import pytest

from stock.levels import LEVELS_AT_ONCE, LevelFeed, due

if TYPE_CHECKING:
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


class FakeLease:
    def __init__(self) -> None:
        self.token: int | None = 1

    async def take(self) -> int | None:
        return self.token


class FakePool:
    """Gives out itself, as pool, as connection and as what `async with` needs."""

    def __init__(self) -> None:
        self.levels = [row("P1", 1), row("P2", 1)]

    def acquire(self) -> FakePool:
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

    async def publish(self, records: list[Record]) -> None:
        if self.error is not None:
            raise self.error
        self.sent.extend(records)

    def versions(self) -> list[tuple[str, int]]:
        bodies = [json.loads(record.value or b"") for record in self.sent]
        self.sent.clear()
        return [(body["productId"], body["version"]) for body in bodies]


@pytest.fixture
def parts() -> tuple[LevelFeed, FakeLease, FakePool, FakePublisher]:
    lease, pool, publisher = FakeLease(), FakePool(), FakePublisher()
    # A lease of no length is asked for at each pass.
    feed = LevelFeed(pool, lease, publisher, lease_s=0.0)  # type: ignore[arg-type]
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
