"""The fold under random streams of the saga's commands: duplicates, any order, any chunks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.effects import Effect
from shared.contracts.order_parts import Line
from shared.contracts.stock import (
    CommitStock,
    ReleaseStock,
    ReserveStock,
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
    StockStrategy,
    WhenRedisDown,
)
from stock.domain import Fold, SagaCommand, SagaReply
from stock.records import Movement, MovementKind, Product, Reservation, ReservationState

PRODUCTS = ("P1", "P2", "P3")
ORDERS = ("o-1", "o-2", "o-3", "o-4", "o-5")


def product(product_id: str, available: int, *, max_per_order: int | None = None) -> Product:
    return Product(
        product_id, product_id, 100, "KRW", StockStrategy.OPTIMISTIC, WhenRedisDown.POSTGRES,
        max_per_order, available, 0, 0, available, 1, StockStrategy.OPTIMISTIC, 1, 1,
    )  # fmt: skip


def reserve(order_id: str, **quantities: int) -> ReserveStock:
    return ReserveStock(
        command_id=f"{order_id}:reserve:do",
        order_id=order_id,
        user_id="user_1",
        items=tuple(
            Line(product_id=key, quantity=value) for key, value in sorted(quantities.items())
        ),
    )


def commit(order_id: str) -> CommitStock:
    return CommitStock(command_id=f"{order_id}:commit:do", order_id=order_id)


def release(order_id: str) -> ReleaseStock:
    return ReleaseStock(command_id=f"{order_id}:reserve:undo", order_id=order_id)


@dataclass
class Database:
    """What the tables hold between two chunks."""

    products: dict[str, Product]
    reservations: dict[str, Reservation] = field(default_factory=dict)
    movements: list[Movement] = field(default_factory=list)

    def fold(self) -> Fold:
        return Fold(self.products.values(), self.reservations.values(), "KRW")

    def save(self, fold: Fold) -> None:
        for row in fold.new_reservations:
            assert row.order_id not in self.reservations
            self.reservations[row.order_id] = row
        for row in fold.changed_reservations:
            assert row.order_id in self.reservations
            self.reservations[row.order_id] = row
        for changed in fold.changed_products:
            assert changed.version > self.products[changed.product_id].version
            self.products[changed.product_id] = changed
        self.movements.extend(fold.movements)

    def run(self, chunk: list[SagaCommand]) -> list[SagaReply | None]:
        """Fold a chunk as the pipeline does: the command that it can't bear is left out."""
        fold = self.fold()
        try:
            replies: list[SagaReply | None] = [fold.apply(command) for command in chunk]
        except ValueError:
            if len(chunk) == 1:
                return [None]
            middle = len(chunk) // 2
            return self.run(chunk[:middle]) + self.run(chunk[middle:])
        self.save(fold)
        return replies

    def check(self) -> None:
        """The invariants, counted anew from reservations and from the ledger."""
        reserved: Counter[str] = Counter()
        sold: Counter[str] = Counter()
        for row in self.reservations.values():
            for line in row.lines:
                if row.state is ReservationState.RESERVED:
                    reserved[line.product_id] += line.quantity
                elif row.state is ReservationState.COMMITTED:
                    sold[line.product_id] += line.quantity
        ledger: Counter[tuple[str, MovementKind]] = Counter()
        for entry in self.movements:
            ledger[entry.product_id, entry.kind] += entry.quantity
        assert len({(one.command_id, one.product_id) for one in self.movements}) == len(
            self.movements
        )
        for key, units in self.products.items():
            assert units.available + units.reserved + units.sold == units.received
            assert min(units.available, units.reserved, units.sold) >= 0
            assert (units.reserved, units.sold) == (reserved[key], sold[key])
            assert units.sold == ledger[key, MovementKind.COMMITTED]
            assert units.reserved == (
                ledger[key, MovementKind.RESERVED]
                - ledger[key, MovementKind.COMMITTED]
                - ledger[key, MovementKind.RELEASED]
            )


def database(*, stock: int = 5) -> Database:
    return Database({key: product(key, stock) for key in PRODUCTS})


quantities = st.dictionaries(st.sampled_from((*PRODUCTS, "P9")), st.integers(1, 4), min_size=1)
# What an order asks for is drawn once: a command that comes again is the same command.
carts = st.fixed_dictionaries(dict.fromkeys(ORDERS, quantities))


@st.composite
def streams(draw: st.DrawFn) -> list[SagaCommand]:
    """Commands of a few orders that fight for little stock, in any order, many of them twice."""
    wanted = draw(carts)
    commands: list[SagaCommand] = []
    for kind, order_id in draw(
        st.lists(st.tuples(st.sampled_from("RRCU"), st.sampled_from(ORDERS)), max_size=40)
    ):
        if kind == "R":
            commands.append(reserve(order_id, **wanted[order_id]))
        else:
            commands.append(commit(order_id) if kind == "C" else release(order_id))
    return commands


@st.composite
def chunked(draw: st.DrawFn) -> list[list[SagaCommand]]:
    commands = draw(streams())
    cuts = sorted(draw(st.sets(st.integers(0, len(commands)), max_size=6)))
    return [
        commands[start:end] for start, end in zip([0, *cuts], [*cuts, len(commands)], strict=True)
    ]


@given(chunked())
@settings(max_examples=150)
def test_units_are_conserved_whatever_comes(chunks: list[list[SagaCommand]]) -> None:
    stored = database()
    for chunk in chunks:
        stored.run(chunk)
        stored.check()


@given(streams())
@settings(max_examples=80)
def test_chunks_change_nothing_in_what_is_decided(commands: list[SagaCommand]) -> None:
    whole, single = database(), database()
    assert whole.run(commands) == [reply for one in commands for reply in single.run([one])]
    assert whole == single


@given(chunked())
@settings(max_examples=120)
def test_f1_f3_the_first_verdict_is_final(chunks: list[list[SagaCommand]]) -> None:
    stored = database()
    verdicts: dict[str, SagaReply] = {}
    for chunk in chunks:
        for command, reply in zip(chunk, stored.run(chunk), strict=True):
            if reply is None:  # a release of what is sold: it is dead-lettered
                assert isinstance(command, ReleaseStock)
                continue
            assert (reply.command_id, reply.order_id) == (command.command_id, command.order_id)
            assert verdicts.setdefault(command.command_id, reply) == reply


@given(chunked())
@settings(max_examples=80)
def test_f1_a_whole_stream_again_changes_nothing(chunks: list[list[SagaCommand]]) -> None:
    stored = database()
    for chunk in chunks:
        stored.run(chunk)
    products, reservations = dict(stored.products), dict(stored.reservations)
    movements = list(stored.movements)
    for chunk in chunks:
        stored.run(chunk)
    assert (stored.products, stored.reservations) == (products, reservations)
    assert stored.movements == movements


@given(carts, st.lists(st.sampled_from(ORDERS)))
def test_an_order_is_reserved_whole_or_not_at_all(
    wanted: dict[str, dict[str, int]], order_ids: list[str]
) -> None:
    stored = database()
    for order_id in order_ids:
        before = {key: row.available for key, row in stored.products.items()}
        known = order_id in stored.reservations
        (reply,) = stored.run([reserve(order_id, **wanted[order_id])])
        taken = {
            key: before[key] - row.available
            for key, row in stored.products.items()
            if before[key] != row.available
        }
        if known or isinstance(reply, StockRefused):
            assert taken == {}
        else:
            assert taken == wanted[order_id]
        if isinstance(reply, StockRefused):
            stood_in_the_way = {detail.product_id for detail in reply.details}
            if "P9" in wanted[order_id]:
                assert reply.reason is StockRefusal.UNKNOWN_PRODUCT
                assert stood_in_the_way == {"P9"}
            elif not known:
                assert reply.reason is StockRefusal.OUT_OF_STOCK
                assert stood_in_the_way == {
                    key for key, value in wanted[order_id].items() if value > before[key]
                }


def test_f3_a_refused_order_stays_refused_when_stock_came_back() -> None:
    stored = database(stock=1)
    (first,) = stored.run([reserve("o-1", P1=2)])
    stored.products["P1"] = stored.products["P1"].moved(available=100, received=100)
    (again,) = stored.run([reserve("o-1", P1=2)])
    assert isinstance(first, StockRefused)
    assert again == first
    assert first.details[0].available == 1


def test_f14_a_release_that_came_first_is_a_tombstone() -> None:
    stored = database()
    released, refused = stored.run([release("o-1"), reserve("o-1", P1=1)])
    assert isinstance(released, StockReleased)
    assert released.effect is Effect.NOTHING
    assert isinstance(refused, StockRefused)
    assert refused.reason is StockRefusal.ALREADY_RELEASED
    assert stored.reservations["o-1"].state is ReservationState.TOMBSTONE
    assert stored.products == database().products


def test_a_release_says_what_it_undid_however_often_it_is_asked() -> None:
    stored = database()
    replies = stored.run([reserve("o-1", P1=2), release("o-1"), release("o-1")])
    replies += stored.run([release("o-1"), reserve("o-1", P1=2)])
    assert [type(reply) for reply in replies] == [
        StockReserved, StockReleased, StockReleased, StockReleased, StockReserved,
    ]  # fmt: skip
    assert {reply.effect for reply in replies if isinstance(reply, StockReleased)} == {
        Effect.UNDONE
    }
    assert stored.products["P1"].available == 5


def test_a_release_of_what_was_refused_undoes_nothing() -> None:
    stored = database()
    refused, released = stored.run([reserve("o-1", P1=6), release("o-1")])
    assert isinstance(refused, StockRefused)
    assert isinstance(released, StockReleased)
    assert released.effect is Effect.NOTHING
    assert stored.reservations["o-1"].state is ReservationState.REFUSED


def test_what_is_sold_is_sold_once_and_cannot_be_released() -> None:
    stored = database()
    replies = stored.run([reserve("o-1", P1=2, P2=1), commit("o-1"), commit("o-1")])
    assert isinstance(replies[1], StockCommitted)
    assert replies[1] == replies[2]
    assert (stored.products["P1"].sold, stored.products["P2"].sold) == (2, 1)
    with pytest.raises(ValueError, match="o-1 is sold"):
        stored.fold().apply(release("o-1"))


@pytest.mark.parametrize("before", [[], [release("o-1")], [reserve("o-1", P1=9)]])
def test_a_commit_without_a_live_reservation_is_refused(before: list[SagaCommand]) -> None:
    stored = database()
    *_, reply = stored.run([*before, commit("o-1")])
    assert isinstance(reply, StockRefused)
    assert reply.reason is StockRefusal.NOT_RESERVED
    stored.check()


def test_a_limit_per_order_refuses_more_than_it() -> None:
    stored = database()
    stored.products["P2"] = product("P2", 5, max_per_order=2)
    at_limit, over = stored.run([reserve("o-1", P2=2), reserve("o-2", P1=1, P2=3)])
    assert isinstance(at_limit, StockReserved)
    assert isinstance(over, StockRefused)
    assert over.reason is StockRefusal.OVER_ORDER_LIMIT
    assert [(one.product_id, one.requested, one.available) for one in over.details] == [
        ("P2", 3, 2)
    ]


def test_a_reservation_carries_the_price_of_that_moment() -> None:
    stored = database()
    (reply,) = stored.run([reserve("o-1", P1=1, P2=2)])
    assert isinstance(reply, StockReserved)
    assert [(one.product_id, one.quantity, one.unit_price) for one in reply.items] == [
        ("P1", 1, 100), ("P2", 2, 100),
    ]  # fmt: skip
    assert reply.currency == "KRW"
