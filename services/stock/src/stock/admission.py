"""Admission by counter: which orders of a chunk may go on to Postgres, asked before it begins.

A chunk is admitted under fences, epoch and generation of each hot product, and the fold on the
rows checks them: where one is another by then, the chunk asks again. A counter that is closed
(lost, of another server, of an older fence) is written anew from its row. Where Redis is away, each
product's own policy counts: Postgres alone decides, or the product is closed for the while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.order_parts import LineDetail
from shared.contracts.stock import StockRefusal, WhenRedisDown
from shared.database.faults import Conflict
from stock.metrics import ANSWERS
from stock.records import Barred, Fence
from stock.strategies import WAYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.contracts.stock import ReserveStock
    from stock.counters import Answer, Take
    from stock.records import Product


class NotAdmittedError(Conflict):
    """A row says that the counter had to be asked, or under another fence: begin anew."""


class Hot(NamedTuple):
    """What is known of a product that is sold by counter."""

    fence: Fence
    when_away: WhenRedisDown


class Admission(NamedTuple):
    """What was found out about the `ReserveStock` of one chunk, by command id."""

    takes: Mapping[str, Take]
    """What was admitted."""
    before: frozenset[str]
    """Those of `takes` that were admitted earlier on, under the same id."""
    barred: Mapping[str, Barred]
    unasked: frozenset[str]
    """Redis is away, and Postgres is to decide alone."""
    fences: Mapping[str, Fence]
    """Under which it was asked, by product."""
    away: bool = False
    """Redis does not answer: no counter can follow what the chunk moves."""

    def check(self, command: ReserveStock, products: Mapping[str, Product]) -> None:
        """Raises NotAdmittedError unless the counters were asked as the rows demand."""
        if command.command_id in self.unasked:
            return
        barred = command.command_id in self.barred
        asked = barred or command.command_id in self.takes
        for item in command.items:
            product = products.get(item.product_id)
            if product is None:
                continue
            if WAYS[product.active].asks_counter:
                if not asked or self.fences.get(item.product_id) != product.fence:
                    raise NotAdmittedError(f"the counter of {item.product_id} is another by now")
            elif barred and item.product_id in self.fences:
                raise NotAdmittedError(f"{item.product_id} is sold without a counter by now")


class GiveBack(NamedTuple):
    """An admission that came to nothing, and the fences that it was made under."""

    take: Take
    fences: Mapping[str, Fence]


NOTHING_ASKED: Final = Admission({}, frozenset(), {}, frozenset(), {})


class Answers:
    """Collects what the counters say, until it makes an admission."""

    def __init__(self, hot: Mapping[str, Hot]) -> None:
        """`hot` has what is known of the products that are asked for."""
        self._hot = hot
        self._takes: dict[str, Take] = {}
        self._before: set[str] = set()
        self._barred: dict[str, Barred] = {}
        self._unasked: set[str] = set()
        self._fences: dict[str, Fence] = {}

    @property
    def decided(self) -> set[str]:
        """The commands that need not be asked for again."""
        return self._takes.keys() | self._barred.keys()

    def add(
        self, takes: Sequence[Take], answers: Sequence[Answer], fences: Mapping[str, Fence]
    ) -> set[str]:
        """Take answers; returns the products whose counters are closed."""
        closed: set[str] = set()
        for take, answer in zip(takes, answers, strict=True):
            if answer.closed:
                closed.update(answer.closed)
                ANSWERS.labels("closed").inc()
                continue
            if answer.admitted:
                self._takes[take.command_id] = take
                if answer.before:
                    self._before.add(take.command_id)
                ANSWERS.labels("admitted").inc()
            else:
                self._barred[take.command_id] = _short(take, answer)
                ANSWERS.labels("turned_away").inc()
            self._fences.update((product_id, fences[product_id]) for product_id, _ in take.lines)
        return closed

    def leave(self, takes: Sequence[Take]) -> None:
        """Redis can't be asked for these: each product's own policy counts."""
        for take in takes:
            shut = [
                (product_id, quantity)
                for product_id, quantity in take.lines
                if self._hot[product_id].when_away is WhenRedisDown.CLOSED
            ]
            ANSWERS.labels("shut" if shut else "unasked").inc()
            if not shut:
                self._unasked.add(take.command_id)
                continue
            self._barred[take.command_id] = Barred(
                StockRefusal.TEMPORARILY_UNAVAILABLE,
                tuple(_detail(product_id, quantity, 0) for product_id, quantity in shut),
            )
            self._fences.update(
                (product_id, self._hot[product_id].fence) for product_id, _ in take.lines
            )

    def admission(self, *, away: bool) -> Admission:
        """What was found out; `away`: no counter can follow what the chunk moves."""
        return Admission(
            self._takes, frozenset(self._before), self._barred, frozenset(self._unasked),
            self._fences, away,
        )  # fmt: skip


def _short(take: Take, answer: Answer) -> Barred:
    wanted = dict(take.lines)
    return Barred(
        StockRefusal.OUT_OF_STOCK,
        tuple(_detail(product_id, wanted[product_id], left) for product_id, left in answer.short),
    )


def _detail(product_id: str, requested: int, available: int) -> LineDetail:
    return LineDetail(product_id=product_id, requested=requested, available=available)
