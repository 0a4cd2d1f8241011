"""The products of all cells, and the orders for them.

Each cell has products of its own for each of its two phases, so that none finds what another left.
In a round all strategies get the same orders, but for their ids.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.bus import Outgoing
from bench.phases import REPLIES, RESERVED, SILENCE_S, STOCK, Work, expect, reservation
from bench.strategies.plan import CASES, STRATEGIES, Supply
from local_stack.seed import CURRENCY
from shared.contracts.stock import AdjustStock, PutProduct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.phases import Ground
    from bench.strategies.plan import Case, StockPlan
    from shared.contracts.stock import StockStrategy

ADMIN, EVENTS = "stock.admin.v1", "stock.events.v1"
REFUSED: Final = "StockRefused"
DRAIN, RATE = "drain", "rate"
PHASES: Final = (DRAIN, RATE)
ENOUGH_UNITS: Final = 100_000_000
LEARNING_ORDERS: Final = 16
"""Of all products of a stand before anything counts. Each goes to one instance: of three, one is
left out in half a percent of the stands, and learns in the midst of a phase how they are sold."""
PRICE: Final = 1_000


class Stand(NamedTuple):
    """Where the products of one phase of one cell lie."""

    case: Case
    strategy: StockStrategy
    phase: str

    def product(self, rank: int) -> str:
        """The id of the product that is wanted most (1), or less."""
        return f"{self.case.supply}-{self.case.contention}-{self.strategy}-{self.phase}-{rank:03d}"


class Demand(NamedTuple):
    """The orders of one phase."""

    ranks: Sequence[int]
    """The product that each order wants, one unit of it."""
    units: Mapping[int, int] | None
    """How many there are of each product; None: enough."""

    @property
    def sold(self) -> int:
        """How many of the orders get their unit."""
        return len(self.ranks) if self.units is None else sum(self.units.values())


def demand(plan: StockPlan, case: Case, phase: str, turn: int) -> Demand:
    """The orders of a phase in one round, always the same."""
    weights = plan.weights(case.contention)
    chance = random.Random(f"{case.contention} {phase} {turn}")
    count = plan.commands if phase == DRAIN else plan.arrivals
    ranks = chance.choices(range(1, len(weights) + 1), weights, k=count)
    enough = case.supply is Supply.ENOUGH
    return Demand(ranks, None if enough else scarce(ranks, plan.orders_per_unit))


def scarce(ranks: Sequence[int], orders_per_unit: int) -> dict[int, int]:
    """Units for one of so many orders, over the products as they are wanted.

    Of what is wanted less often there is one unit here and none there, so that the sum is right.
    """
    wanted = sorted(Counter(ranks).items())
    sums = accumulate((count for _, count in wanted), initial=0)
    shares = [end // orders_per_unit - start // orders_per_unit for start, end in pairwise(sums)]
    return {rank: units for (rank, _), units in zip(wanted, shares, strict=True)}


def work(stand: Stand, wanted: Demand, turn: int) -> Work:
    """The `ReserveStock` of a phase, and the verdicts that have to come."""
    name = f"{stand.product(0)}-{turn}"
    messages = [
        reservation(f"{name}-{n}", stand.product(rank)) for n, rank in enumerate(wanted.ranks)
    ]
    return verdicts(messages, wanted.sold)


def verdicts(messages: Sequence[Outgoing], sold: int) -> Work:
    """`ReserveStock` of which so many get their unit."""
    expected = {RESERVED: sold, REFUSED: len(messages) - sold}
    return Work(
        STOCK,
        messages,
        REPLIES,
        {kind: count for kind, count in expected.items() if count},
        frozenset(expected),
    )


class Shop:
    """All products, on the stack of a run."""

    def __init__(self, ground: Ground, plan: StockPlan) -> None:
        self._ground = ground
        self._plan = plan
        self.stands = [Stand(*one) for one in product(CASES, STRATEGIES, PHASES)]

    async def open(self) -> None:
        """Put all products. Raises BenchError where stock refuses one."""
        await self._tell(
            [_put(name, stand) for stand in self.stands for name in self._names(stand)]
        )

    def first_orders(self) -> Work:
        """Some of all products: the instances learn how each is sold."""
        messages = [
            reservation(f"{stand.product(0)}-first-{n}", *self._names(stand))
            for n in range(LEARNING_ORDERS)
            for stand in self.stands
        ]
        return verdicts(messages, len(messages))

    async def stock_up(self, turn: int) -> None:
        """Let crowds find what they are to find in a round. Raises BenchError."""
        rows = await self._ground.database.fetch("SELECT product_id, available FROM stock.product")
        there = {row["product_id"]: row["available"] for row in rows}
        changes = []
        for stand in self.stands:
            units = demand(self._plan, stand.case, stand.phase, turn).units
            if units is None:
                continue
            for rank, name in enumerate(self._names(stand), 1):
                delta = units.get(rank, 0) - there[name]
                if delta:
                    changes.append(_adjust(name, delta, turn))
        await self._tell(changes)

    def _names(self, stand: Stand) -> list[str]:
        count = len(self._plan.weights(stand.case.contention))
        return [stand.product(rank) for rank in range(1, count + 1)]

    async def _tell(self, messages: Sequence[PutProduct | AdjustStock]) -> None:
        since = await self._ground.bus.ends(EVENTS)
        outgoing = [Outgoing(one.product_id.encode(), one.to_bytes()) for one in messages]
        async with self._ground.phase():
            await self._ground.bus.publish_all(ADMIN, outgoing)
            await self._ground.bus.grown(since, len(messages), within_s=SILENCE_S)
        answers = await self._ground.bus.answers(since)
        expect(answers, Counter(_ANSWERS[one.type] for one in messages))


_ANSWERS: Final = {"PutProduct": "ProductPut", "AdjustStock": "StockAdjusted"}


def _put(name: str, stand: Stand) -> PutProduct:
    enough = stand.case.supply is Supply.ENOUGH
    return PutProduct(
        command_id=f"put-{name}",
        product_id=name,
        name=name,
        price=PRICE,
        currency=CURRENCY,
        strategy=stand.strategy,
        quantity=ENOUGH_UNITS if enough else LEARNING_ORDERS,
    )


def _adjust(name: str, delta: int, turn: int) -> AdjustStock:
    return AdjustStock(
        command_id=f"adjust-{turn}-{name}", product_id=name, delta=delta, reason="a round begins"
    )
