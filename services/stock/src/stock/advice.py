"""Which strategy a product should have, by what was measured of it. Pure.

The reasons are those of an operator: where most of a crowd goes away empty, a counter turns it away
before anything is locked; where chunks fold twice or wait for each other, a queue is fairer and
does the work once; else nothing needs to be locked early. To go back takes clearly less than to
go, so that a product at the edge doesn't change from minute to minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.stock import StockStrategy

if TYPE_CHECKING:
    from stock.tally import Tally

WINDOW_S: Final = 60
CROWD_PER_S: Final = 20.0
"""So many orders a second that find nothing left are a crowd, if they are most of all."""
CROWD_SHARE: Final = 0.5
STILL_A_CROWD_SHARE: Final = 0.25
"""Enough for a product that has a counter to keep it."""
CONFLICTS_PER_S: Final = 0.5
LOCK_WAIT_SHARE: Final = 0.1
"""Of the time, spent by chunks that wait for the product's lock."""
BACK: Final = 0.25
"""The share of a limit below which a product goes back."""


class Advice(NamedTuple):
    """A strategy, and why."""

    strategy: StockStrategy
    why: str


def advise(measured: Tally, active: StockStrategy, window_s: float = WINDOW_S) -> Advice:
    """What to choose for a product that works by `active` and was measured for `window_s`."""
    refused_per_s = measured.refusals / window_s
    share = measured.refusals / measured.commands if measured.commands else 0.0
    counted = active is StockStrategy.REDIS
    crowd = CROWD_PER_S * (BACK if counted else 1.0)
    if refused_per_s >= crowd and share >= (STILL_A_CROWD_SHARE if counted else CROWD_SHARE):
        return Advice(
            StockStrategy.REDIS,
            f"{refused_per_s:.0f} orders a second, {share:.0%} of all, found too little: a counter"
            " turns them away before anything is locked",
        )
    conflicts_per_s = measured.conflicts / window_s
    waiting = measured.lock_wait_ms / 1000 / window_s
    # Who locks first has no conflicts: there the wait alone tells whether others are in the way.
    edge = 1.0 if active is StockStrategy.OPTIMISTIC else BACK
    if conflicts_per_s >= CONFLICTS_PER_S * edge or waiting >= LOCK_WAIT_SHARE * edge:
        return Advice(
            StockStrategy.PESSIMISTIC,
            f"{conflicts_per_s:.1f} chunks a second were folded twice, and {waiting:.0%} of the"
            " time somebody waited for its lock: a queue does the work once, in turn",
        )
    return Advice(
        StockStrategy.OPTIMISTIC,
        f"{refused_per_s:.1f} orders a second found too little ({share:.0%}),"
        f" {conflicts_per_s:.1f} chunks a second were folded twice, and {waiting:.0%} of the time"
        " somebody waited for its lock: too little to lock anything before it is saved",
    )
