"""Applies what is late and settles what is processing, when it is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway_simulator.book import Book
    from gateway_simulator.store import Store
    from gateway_simulator.waiting import Alarm


async def keep_time(store: Store, book: Book, alarm: Alarm, events: Alarm) -> None:
    """Runs until it is cancelled. `alarm` rings where something new is to wait for; `events` is
    rung after each turn, for what has become due is told of."""
    while True:
        next_ms = await store.do(book.apply_due)
        events.ring()
        await alarm.wait(next_ms)
