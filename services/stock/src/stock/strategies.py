"""The three strategies, side by side. All fold through `domain.Fold`, and Postgres decides in each;
they differ in what comes before the fold.

    optimistic    read ──▶ fold ──▶ lock in key order, compare ──▶ save      ordinary products
    pessimistic   lock in key order ──▶ fold ──▶ save                        limited products
    redis         counter ──▶ lock in key order ──▶ fold ──▶ save            hot products
                     └──▶ turned away: nothing is locked

A chunk has one way for all of its products, the strictest that one of them asks for, so that every
chunk takes its locks in the order of their keys: no two can wait for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.stock import StockStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping


class Way(NamedTuple):
    """What a strategy does before the fold."""

    locks_first: bool
    """The rows are locked before they are read: nobody folds twice, others queue behind the locks,
    first come, first served."""
    asks_counter: bool
    """A counter in Redis admits, before the transaction."""


WAYS: Final[Mapping[StockStrategy, Way]] = {
    StockStrategy.OPTIMISTIC: Way(locks_first=False, asks_counter=False),
    StockStrategy.PESSIMISTIC: Way(locks_first=True, asks_counter=False),
    StockStrategy.REDIS: Way(locks_first=True, asks_counter=True),
}
"""By the strategy at work: `auto` is one of these at any moment."""
