"""The three strategies, side by side. All fold through `domain.Fold`, and Postgres decides in each;
they differ in what comes before the fold.

    optimistic    read ──▶ fold ──▶ lock in key order, compare ──▶ save      ordinary products
    pessimistic   queue ──▶ lock in key order ──▶ fold ──▶ save              limited products
    redis         counter ──▶ lock in key order ──▶ fold ──▶ save            hot products
                     └──▶ turned away: nothing is locked

A chunk locks all of its products before the fold where one of them asks for it. So every chunk
takes its locks in one order, reservations, queues, products, each by key: no two can wait for each
other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.stock import StockStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping


class Way(NamedTuple):
    """What a strategy does before the fold."""

    locks_first: bool
    """The rows are locked before they are read: nobody folds twice."""
    queues: bool
    """Chunks wait in a queue before the lock. Those who wait for a row alone are woken together,
    and the fastest has it; a queue is served in turn: first come, first served."""
    asks_counter: bool
    """A counter in Redis admits, before the transaction."""


WAYS: Final[Mapping[StockStrategy, Way]] = {
    StockStrategy.OPTIMISTIC: Way(locks_first=False, queues=False, asks_counter=False),
    StockStrategy.PESSIMISTIC: Way(locks_first=True, queues=True, asks_counter=False),
    StockStrategy.REDIS: Way(locks_first=True, queues=False, asks_counter=True),
}
"""By the strategy at work: `auto` is one of these at any moment."""
