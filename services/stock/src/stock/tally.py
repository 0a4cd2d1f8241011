"""What a chunk tells of how contended its products are. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.stock import ReserveStock, StockRefusal, StockRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stock.domain import SagaCommand, SagaReply


NO_WAIT_MS: Final = 10.0
"""What a lock takes that nobody holds is less, and no wait."""


class Tally(NamedTuple):
    """What happened to a product in some time."""

    commands: int = 0
    """`ReserveStock` with a line of it."""
    conflicts: int = 0
    """Chunks that were folded twice because it had changed meanwhile."""
    refusals: int = 0
    """Orders that found too little of it."""
    lock_wait_ms: float = 0.0
    """Its share of the time that chunks waited for locks."""

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.commands + other.commands,
            self.conflicts + other.conflicts,
            self.refusals + other.refusals,
            self.lock_wait_ms + other.lock_wait_ms,
        )

    @property
    def is_contended(self) -> bool:
        """Whether anybody waited, folded twice, or was turned away."""
        return self.conflicts > 0 or self.refusals > 0 or self.lock_wait_ms >= 1


def tally(
    commands: Sequence[SagaCommand],
    replies: Sequence[SagaReply],
    *,
    conflicted: Iterable[str],
    waited_ms: float,
) -> dict[str, Tally]:
    """What one chunk tells, by product. What it waited for locks is shared out by commands."""
    wanted = Counter(
        item.product_id
        for command in commands
        if isinstance(command, ReserveStock)
        for item in command.items
    )
    short = Counter(
        line.product_id
        for reply in replies
        if isinstance(reply, StockRefused) and reply.reason is StockRefusal.OUT_OF_STOCK
        for line in reply.details
    )
    again = set(conflicted)
    waited_ms = waited_ms if waited_ms > NO_WAIT_MS else 0.0
    total = sum(wanted.values())
    return {
        product_id: Tally(count, product_id in again, short[product_id], waited_ms * count / total)
        for product_id, count in wanted.items()
    }
