"""Admission by counter: which orders of a chunk may go on to Postgres, as it was found out before.

A chunk is admitted under fences, epoch and generation of each hot product, and the fold on the
rows checks them: where one is another by then, the chunk asks again. Where Redis can't be asked,
each product's own policy counts: Postgres alone decides, or the product is closed for the while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.order_parts import LineDetail
from shared.contracts.stock import StockRefusal, WhenRedisDown
from shared.database.faults import Conflict
from stock.metrics import ANSWERS
from stock.records import Barred
from stock.strategies import WAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.contracts.stock import ReserveStock
    from stock.counters import Answer, Take
    from stock.records import Fence, Product


class NotAdmittedError(Conflict):
    """A row says that the counter had to be asked, or under another fence: begin anew."""


class Admission(NamedTuple):
    """What was found out about the `ReserveStock` of one chunk, by command id."""

    takes: Mapping[str, Take]
    """What was admitted."""
    before: frozenset[str]
    """Those of `takes` that were admitted earlier on, under the same id."""
    barred: Mapping[str, Barred]
    fences: Mapping[str, Mapping[str, Fence]]
    """Under which each of them was asked, by product."""
    left: frozenset[str]
    """Redis can't be asked, and Postgres is to decide alone."""
    away: bool = False
    """Redis does not answer: no counter can follow what the chunk moves."""

    def check(self, command: ReserveStock, products: Mapping[str, Product]) -> None:
        """Raises NotAdmittedError unless the counters were asked as the rows demand."""
        if command.command_id in self.left or is_hopeless(command, products):
            return
        fences = self.fences.get(command.command_id, {})
        for item in command.items:
            product = products[item.product_id]
            if WAYS[product.active].asks_counter:
                if fences.get(item.product_id) != product.fence:
                    raise NotAdmittedError(f"the counter of {item.product_id} is another by now")
            elif command.command_id in self.barred and item.product_id in fences:
                raise NotAdmittedError(f"{item.product_id} is sold without a counter by now")


NOTHING_ASKED: Final = Admission({}, frozenset(), {}, {}, frozenset())


def is_hopeless(command: ReserveStock, products: Mapping[str, Product]) -> bool:
    """Whether the rows refuse it however much there is: an unknown product, or more than an order
    may have. Such an order asks no counter, since what it took would be missing behind it."""
    return any(
        (product := products.get(item.product_id)) is None
        or (product.max_per_order is not None and item.quantity > product.max_per_order)
        for item in command.items
    )


class Answers:
    """Collects what the counters say, until it makes an admission."""

    def __init__(self) -> None:
        """Nothing is answered yet."""
        self._takes: dict[str, Take] = {}
        self._before: set[str] = set()
        self._barred: dict[str, Barred] = {}
        self._fences: dict[str, Mapping[str, Fence]] = {}
        self._left: set[str] = set()

    def is_open(self, command: ReserveStock) -> bool:
        """Whether nothing is known of it yet."""
        known = self._fences.keys() | self._left
        return command.command_id not in known

    def add(self, takes: Sequence[Take], answers: Iterable[Answer]) -> dict[str, Fence]:
        """Take answers; returns the products whose counters are closed, and the fences asked."""
        closed: dict[str, Fence] = {}
        for take, answer in zip(takes, answers, strict=True):
            if answer.closed:
                closed |= {product_id: take.fences[product_id] for product_id in answer.closed}
                ANSWERS.labels("closed").inc()
                continue
            self._fences[take.command_id] = take.fences
            if answer.admitted:
                self._takes[take.command_id] = take
                if answer.before:
                    self._before.add(take.command_id)
                ANSWERS.labels("admitted").inc()
            else:
                self._barred[take.command_id] = _short(take, answer)
                ANSWERS.labels("turned_away").inc()
        return closed

    def leave(self, takes: Sequence[Take]) -> None:
        """Redis can't be asked for these: each product's own policy counts."""
        for take in takes:
            shut = [line for line in take.lines if line.when_away is WhenRedisDown.CLOSED]
            ANSWERS.labels("shut" if shut else "left").inc()
            if not shut:
                self._left.add(take.command_id)
                continue
            self._fences[take.command_id] = take.fences
            self._barred[take.command_id] = Barred(
                StockRefusal.TEMPORARILY_UNAVAILABLE,
                tuple(_detail(line.product_id, line.quantity, 0) for line in shut),
            )

    def admission(self, *, away: bool) -> Admission:
        """What was found out; `away`: no counter can follow what the chunk moves."""
        return Admission(
            self._takes, frozenset(self._before), self._barred, self._fences,
            frozenset(self._left), away,
        )  # fmt: skip


def _short(take: Take, answer: Answer) -> Barred:
    wanted = {line.product_id: line.quantity for line in take.lines}
    return Barred(
        StockRefusal.OUT_OF_STOCK,
        tuple(_detail(product_id, wanted[product_id], left) for product_id, left in answer.short),
    )


def _detail(product_id: str, requested: int, available: int) -> LineDetail:
    return LineDetail(product_id=product_id, requested=requested, available=available)
