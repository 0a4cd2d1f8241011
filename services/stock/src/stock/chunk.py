"""The saga's commands of one transaction: what they touch, how they fold, what follows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.stock import ReserveStock, StockRefusal, StockRefused, StockReserved
from stock.counters import Move
from stock.domain import Fold
from stock.records import MovementKind, Product, ReservationState
from stock.strategies import WAYS
from stock.tally import tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stock.admission import Admission
    from stock.counters import Take
    from stock.domain import SagaCommand, SagaReply
    from stock.records import Movement, Reservation
    from stock.tally import Tally

_FREED = (MovementKind.RELEASED, MovementKind.ADJUSTED)


class Folded(NamedTuple):
    """What a fold made of a chunk."""

    fold: Fold
    replies: list[SagaReply]
    given_back: list[Take]
    """Admissions that came to nothing."""
    moves: list[Move]
    """What the counters have to follow."""


class Chunk:
    """The commands, the reservations as they were locked, and what the counters said."""

    def __init__(
        self,
        commands: Sequence[SagaCommand],
        reservations: Sequence[Reservation],
        admission: Admission,
        currency: str,
    ) -> None:
        """`currency` is the deployment's."""
        self._commands = commands
        self._reservations = reservations
        self._admission = admission
        self._currency = currency
        self._decided = {row.order_id for row in reservations}
        moved: set[str] = set()
        watched: set[str] = set()
        for command in commands:
            if isinstance(command, ReserveStock):
                barred = command.command_id in admission.barred
                products = watched if barred else moved
                products.update(line.product_id for line in command.items)
        for reservation in reservations:
            if reservation.state is ReservationState.RESERVED:
                moved.update(line.product_id for line in reservation.lines)
        self.moved = sorted(moved)
        """The products that the chunk may move, in key order."""
        self.watched = sorted(watched - moved)
        """The others of orders that were turned away: were they turned away rightly?"""
        self.conflicted: set[str] = set()
        """Products that had changed when they were locked."""
        self.waited_s = 0.0
        """For queues and locks."""

    def fold(self, products: Sequence[Product]) -> Folded:
        """Apply the commands to these rows, in their order.

        Raises NotAdmittedError where a row says that a counter had to be asked, or another.
        """
        admission = self._admission
        known = {product.product_id: product for product in products}
        asks = admission.fences or any(WAYS[product.active].asks_counter for product in products)
        fold = Fold(products, self._reservations, self._currency)
        replies: list[SagaReply] = []
        wrong: set[str] = set()
        """Products whose counters don't know of what is moved here, or admit what isn't there."""
        given_back: dict[str, Take] = {}
        for command in self._commands:
            if isinstance(command, ReserveStock):
                new = command.order_id not in self._decided
                if new and asks:
                    admission.check(command, known)
                reply = fold.apply(command, admission.barred.get(command.command_id))
                take = admission.takes.get(command.command_id)
                reserved = isinstance(reply, StockReserved)
                if take and (not reserved if new else take.command_id not in admission.before):
                    given_back[take.command_id] = take
                if new and take:
                    wrong.update(_short_of(reply) & take.fences.keys())
                if new and reserved and command.command_id in admission.left:
                    wrong.update(line.product_id for line in command.items)
            else:
                reply = fold.apply(command)
            replies.append(reply)
        if admission.away:
            wrong.update(one.product_id for one in fold.movements if one.kind in _FREED)
        fold.void_counters(wrong)
        moves = counter_moves(fold.movements, fold.products)
        return Folded(fold, replies, list(given_back.values()), moves)

    def tally(self, replies: Sequence[SagaReply]) -> dict[str, Tally]:
        """What it tells of how contended its products are."""
        return tally(
            self._commands, replies, conflicted=self.conflicted, waited_ms=self.waited_s * 1000
        )


def _short_of(reply: SagaReply) -> set[str]:
    """The products of which an order found too little."""
    if isinstance(reply, StockRefused) and reply.reason is StockRefusal.OUT_OF_STOCK:
        return {line.product_id for line in reply.details}
    return set()


def counter_moves(movements: Iterable[Movement], products: Mapping[str, Product]) -> list[Move]:
    """What the counters of hot products have to follow, of what a fold moved. What was reserved
    was taken from them before."""
    return [
        Move(one.command_id, one.product_id, products[one.product_id].fence, one.quantity)
        for one in movements
        if one.kind in _FREED and WAYS[products[one.product_id].active].asks_counter
    ]
