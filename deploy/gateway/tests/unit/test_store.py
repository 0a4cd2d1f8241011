"""Steps that share a transaction: each whole or not at all, none answered before it is stored."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway_simulator.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "book.sqlite")
    store.execute("CREATE TABLE note (text TEXT PRIMARY KEY)")
    yield store
    store.close()


def stored(store: Store) -> list[str]:
    """As another process sees it."""
    with sqlite3.connect(store.path) as other:
        return [row[0] for row in other.execute("SELECT text FROM note ORDER BY text")]


def write(store: Store, text: str) -> str:
    store.execute("INSERT INTO note VALUES (?)", (text,))
    return text


async def test_steps_at_hand_are_stored_together_and_then_answered(store: Store) -> None:
    answers = [asyncio.ensure_future(store.do(lambda n=n: write(store, f"{n}"))) for n in range(3)]  # type: ignore[misc]
    seen: list[list[str]] = []
    for answer in answers:
        answer.add_done_callback(lambda _: seen.append(stored(store)))
    assert await asyncio.gather(*answers) == ["0", "1", "2"]
    assert seen == [["0", "1", "2"]] * 3


async def test_a_step_that_fails_takes_back_itself_alone(store: Store) -> None:
    def fail() -> None:
        write(store, "b")
        raise LookupError

    results = await asyncio.gather(
        store.do(lambda: write(store, "a")),
        store.do(fail),
        store.do(lambda: write(store, "a")),
        store.do(lambda: write(store, "c")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [str, LookupError, sqlite3.IntegrityError, str]
    assert stored(store) == ["a", "c"]


async def test_nobody_is_answered_where_the_commit_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        store.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", full)
        results = await asyncio.gather(
            *(store.do(lambda n=n: write(store, f"{n}")) for n in range(3)),  # type: ignore[misc]
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [sqlite3.OperationalError] * 3
    assert stored(store) == []
    assert await store.do(lambda: write(store, "later")) == "later"


async def test_who_is_called_off_calls_off_nobody_else(store: Store) -> None:
    first = asyncio.ensure_future(store.do(lambda: write(store, "a")))
    second = asyncio.ensure_future(store.do(lambda: write(store, "b")))
    await asyncio.sleep(0)  # both have taken their step
    first.cancel()
    assert await second == "b"
    assert stored(store) == ["a", "b"]


def test_a_book_is_made_once(tmp_path: Path) -> None:
    first = Store(tmp_path / "deep" / "book.sqlite")
    first.close()
    again = Store(first.path)
    assert again.tag == first.tag
    again.close()
