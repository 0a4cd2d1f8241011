"""Stock's handlers on Postgres: many instances at once, and no unit too many."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from shared.audit import Source, audit
from shared.contracts.base import fingerprint, message_id
from shared.contracts.reading import Reader, Unreadable
from shared.contracts.stock import (
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
)
from shared.contracts.topics import TOPICS
from shared.pipeline import Delivery, Route
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.messages import Received
from shared.telemetry import metrics
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    put_product,
    release_stock,
    reserve_stock,
)
from shared.testing.signals import Gate, eventually
from stock.consumers import routes
from stock.handlers import CONFLICTS_BEFORE_LOCKING, SagaCommands
from stock.metrics import CONFLICTS
from stock.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from shared.contracts.base import Message
    from shared.database import Pool
    from shared.pipeline.outbox import Chunk
    from shared.testing.databases import Database
    from stock.domain import Product

SOURCE = (Source("stock", "stock"),)


class Relay:
    """Keeps the replies."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.values: list[bytes] = []

    def submit(self, chunks: Sequence[Chunk]) -> None:
        self.values.extend(row.value or b"" for chunk in chunks for row in chunk.rows)


class Instance:
    """Both groups of one instance of stock, without Kafka."""

    def __init__(self, number: int, pool: Pool) -> None:
        self.relay = Relay(f"stock-{number}")
        saga, admin = routes("KRW")
        self.handler = saga.handler
        assert isinstance(self.handler, SagaCommands)
        self._saga = self._runner(saga, pool)
        self._admin = self._runner(admin, pool)

    def _runner(self, route: Route, pool: Pool) -> ChunkRunner:
        return ChunkRunner(route, pool, self.relay, lease_s=30.0)  # type: ignore[arg-type]

    async def run(self, *commands: Message) -> list[Message]:
        """Run a chunk of the saga's commands; returns their replies."""
        return await self._run(self._saga, "stock.commands.v1", commands)

    async def administer(self, *commands: Message) -> list[Message]:
        """Run a chunk of operators' commands; returns what is said of them."""
        return await self._run(self._admin, "stock.admin.v1", commands)

    async def _run(
        self, runner: ChunkRunner, topic: str, commands: Sequence[Message]
    ) -> list[Message]:
        at = len(self.relay.values)
        await runner.run(
            [
                Delivery(
                    command, message_id(command), fingerprint(command),
                    Received(topic, 0, offset, 0, None, command.to_bytes(), ""), "",
                )
                for offset, command in enumerate(commands)
            ],
            (),
        )  # fmt: skip
        return [_read(value) for value in self.relay.values[at:]]


SAID = Reader(
    (*TOPICS["stock.replies.v1"].messages, *TOPICS["stock.events.v1"].messages), public=False
)


def _read(value: bytes) -> Message:
    message = SAID.read(value)
    assert not isinstance(message, Unreadable), message
    return message


@pytest.fixture
def stock(pool: Pool) -> Instance:
    return Instance(0, pool)


@pytest.fixture
async def checked(database: Database) -> AsyncIterator[None]:
    """The invariants hold when the test is over."""
    yield
    (await audit(database.operator_dsn, SOURCE, only_always=True)).require()


pytestmark = pytest.mark.usefixtures("checked")


async def counters(pool: Pool, product_id: str = "P001") -> tuple[int, ...]:
    row = await pool.fetchrow(
        "SELECT available, reserved, sold, received FROM product WHERE product_id = $1", product_id
    )
    assert row is not None
    return tuple(row)


def deadlocks() -> float:
    return float(metrics.RETRIES.labels("stock", "deadlock")._value.get())


async def test_an_order_from_reserve_to_sale(stock: Instance, pool: Pool) -> None:
    await stock.administer(put_product("P001", quantity=10, price=250))
    (reserved,) = await stock.run(reserve_stock("o-1", items={"P001": 3}))
    assert isinstance(reserved, StockReserved)
    assert [line.unit_price for line in reserved.items] == [250]
    assert await counters(pool) == (7, 3, 0, 10)
    (committed,) = await stock.run(commit_stock("o-1"))
    assert isinstance(committed, StockCommitted)
    assert await counters(pool) == (7, 0, 3, 10)


async def test_f1_f3_what_was_said_once_is_said_again_whatever_came_between(
    stock: Instance, pool: Pool
) -> None:
    await stock.administer(put_product("P001", quantity=2, price=250))
    commands = [
        reserve_stock("o-1", items={"P001": 2}),
        reserve_stock("o-2", items={"P001": 1, "P404": 1}),
        reserve_stock("o-3", items={"P001": 1}),
        release_stock("o-4"),
        reserve_stock("o-4", items={"P001": 1}),
        release_stock("o-1"),
    ]
    first = await stock.run(*commands)
    assert [getattr(one, "reason", None) for one in first] == [
        None, StockRefusal.UNKNOWN_PRODUCT, StockRefusal.OUT_OF_STOCK, None,
        StockRefusal.ALREADY_RELEASED, None,
    ]  # fmt: skip
    # stock comes, the price changes, and another instance is asked
    await stock.administer(
        adjust_stock(delta=50), put_product("P001", price=999), put_product("P404")
    )
    after = await counters(pool)
    for command, reply in zip(commands, first, strict=True):
        assert await Instance(1, pool).run(command) == [reply]
    assert await counters(pool) == after == (52, 0, 0, 52)


async def test_f48_carts_in_inverse_order_over_several_instances_never_deadlock(
    pool: Pool,
) -> None:
    """Every chunk touches most products, in another order each; some are reserved, some undone."""
    products = [f"P{number:03}" for number in range(40)]
    setup = Instance(9, pool)
    await setup.administer(*(put_product(key, quantity=60) for key in products))
    before = deadlocks()
    chance = random.Random(48)

    def carts(instance: int) -> list[list[Message]]:
        chunks: list[list[Message]] = []
        for chunk in range(12):
            order = products if (instance + chunk) % 2 else products[::-1]
            ids = [f"o-{instance}-{chunk}-{n}" for n in range(15)]
            reserves: list[Message] = [
                reserve_stock(one, items=dict.fromkeys(order[n : n + 4], 1))
                for n, one in enumerate(ids)
            ]
            chance.shuffle(reserves)
            chunks += [reserves, [release_stock(one) for one in ids[::2]]]
        return chunks

    async def work(number: int, chunks: list[list[Message]]) -> list[Message]:
        own = Instance(number, pool)
        return [reply for chunk in chunks for reply in await own.run(*chunk)]

    replies = await asyncio.gather(*(work(n, carts(n)) for n in range(5)))
    kinds = [type(reply) for batch in replies for reply in batch]
    assert kinds.count(StockReserved) + kinds.count(StockRefused) == 5 * 12 * 15
    assert kinds.count(StockReleased) == 5 * 12 * 8
    assert kinds.count(StockRefused) > 0
    assert deadlocks() == before


async def test_f48_operators_and_orders_at_once_never_deadlock(pool: Pool) -> None:
    """The statements that deadlocked in trials lock in key order: updates, inserts, both groups."""
    products = [f"P{number:03}" for number in range(12)]
    before = deadlocks() + metrics.RETRIES.labels("stock-requests", "deadlock")._value.get()

    async def operate(number: int) -> None:
        own = Instance(number, pool)
        for turn in range(15):
            order = products if (number + turn) % 2 else products[::-1]
            await own.administer(
                *(put_product(key, quantity=5) for key in order),
                *(adjust_stock(key, delta=1) for key in order[::-1]),
            )

    async def sell(number: int) -> None:
        own = Instance(number, pool)
        for turn in range(15):
            order = products if (number + turn) % 2 else products[::-1]
            ids = [f"o-{number}-{turn}-{n}" for n in range(6)]
            await own.run(*(reserve_stock(one, items=dict.fromkeys(order, 1)) for one in ids))
            await own.run(*(commit_stock(one) for one in ids[::-1]))

    await asyncio.gather(operate(0), sell(1), operate(2), sell(3), sell(4))
    after = deadlocks() + metrics.RETRIES.labels("stock-requests", "deadlock")._value.get()
    assert after == before
    sold = await pool.fetchval("SELECT sum(sold) FROM product")
    assert sold > 0


async def test_the_last_units_go_to_as_many_orders_as_there_are(pool: Pool) -> None:
    await Instance(9, pool).administer(put_product("P001", quantity=100))

    async def work(number: int) -> list[Message]:
        own = Instance(number, pool)
        return [
            reply
            for start in range(0, 50, 10)
            for reply in await own.run(
                *(reserve_stock(f"o-{number}-{start + n}") for n in range(10))
            )
        ]

    replies = [one for batch in await asyncio.gather(*map(work, range(6))) for one in batch]
    assert sum(isinstance(one, StockReserved) for one in replies) == 100
    assert await counters(pool) == (0, 100, 0, 100)


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Stops `Store.read_products` after it has read, in the task named `gated`."""
    gate = Gate("products were read")
    read = Store.read_products

    async def read_and_stop(self: Store, product_ids: Collection[str]) -> list[Product]:
        found = await read(self, product_ids)
        task = asyncio.current_task()
        if task is not None and task.get_name() == "gated":
            await gate.stop()
        return found

    monkeypatch.setattr(Store, "read_products", read_and_stop)
    return gate


async def test_who_folded_on_rows_that_changed_meanwhile_folds_again(
    stock: Instance, pool: Pool, gated: Gate
) -> None:
    await stock.administer(put_product("P001", quantity=3))
    conflicts = CONFLICTS._value.get()
    slow = asyncio.create_task(stock.run(reserve_stock("o-1", items={"P001": 2})), name="gated")
    await gated.reached()
    other = Instance(1, pool)
    await other.run(reserve_stock("o-2", items={"P001": 2}))
    gated.open()
    (reply,) = await slow
    assert isinstance(reply, StockRefused), "two and two are not three"
    assert reply.details[0].available == 1
    assert CONFLICTS._value.get() == conflicts + 1
    assert await counters(pool) == (1, 2, 0, 3)


async def test_exhaustion_is_never_a_refusal_it_locks_before_it_folds(
    stock: Instance, pool: Pool, gated: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock.administer(put_product("P001", quantity=1_000))
    other = Instance(1, pool)
    locked: list[int] = []
    lock = Store.lock_products

    async def note(self: Store, product_ids: Collection[str]) -> list[Product]:
        locked.append(1)
        return await lock(self, product_ids)

    for turn in range(CONFLICTS_BEFORE_LOCKING):
        slow = asyncio.create_task(stock.run(reserve_stock(f"a-{turn}")), name="gated")
        await gated.reached(turn + 1)
        await other.run(reserve_stock(f"b-{turn}"))
        gated.open()
        assert isinstance((await slow)[0], StockReserved)
        gated._opened.clear()
    monkeypatch.setattr(Store, "lock_products", note)
    slow = asyncio.create_task(stock.run(reserve_stock("a-last")), name="gated")
    assert isinstance((await slow)[0], StockReserved), "it didn't stop: it read nothing unlocked"
    assert locked == [1], "once, before the fold"


@pytest.mark.parametrize("first", ["do", "undo"])
async def test_f15_of_a_do_and_its_undo_one_decides_and_the_units_follow(
    pool: Pool, database: Database, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The second waits at the order's key until the first has committed, and starts over."""
    await Instance(9, pool).administer(put_product("P001", quantity=5))
    do, undo = reserve_stock("o-1", items={"P001": 2}), release_stock("o-1")
    gate = Gate("the first has written")
    insert = Store.insert_reservations

    async def insert_and_stop(self: Store, reservations: Any) -> None:
        await insert(self, reservations)
        task = asyncio.current_task()
        if task is not None and task.get_name() == "gated":
            await gate.stop()

    monkeypatch.setattr(Store, "insert_reservations", insert_and_stop)
    commands = (do, undo) if first == "do" else (undo, do)
    conflicts = metrics.RETRIES.labels("stock", "conflict")._value.get()
    ahead = asyncio.create_task(Instance(0, pool).run(commands[0]), name="gated")
    await gate.reached()
    behind = asyncio.create_task(Instance(1, pool).run(commands[1]))
    async with database.connection() as admin:
        await eventually(
            lambda: admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = $1 AND wait_event_type = 'Lock'",
                database.name,
            )
        )
    gate.open()
    (reply,), (later,) = await ahead, await behind
    assert metrics.RETRIES.labels("stock", "conflict")._value.get() == conflicts + 1
    if first == "do":
        assert isinstance(reply, StockReserved)
        assert isinstance(later, StockReleased)
        assert later.effect == "undone"
    else:
        assert isinstance(reply, StockReleased)
        assert reply.effect == "nothing"
        assert isinstance(later, StockRefused)
        assert later.reason is StockRefusal.ALREADY_RELEASED
    assert await counters(pool) == (5, 0, 0, 5)


async def test_a_release_of_what_is_sold_is_dead_lettered_alone(
    stock: Instance, pool: Pool
) -> None:
    await stock.administer(put_product("P001", quantity=5))
    await stock.run(reserve_stock("o-1"), commit_stock("o-1"))
    before = metrics.DEAD_LETTERS.labels("stock", "handling_failed")._value.get()
    await stock._saga.run(
        [
            Delivery(
                command, message_id(command), fingerprint(command),
                Received("stock.commands.v1", 0, offset, 0, None, command.to_bytes(), ""), "",
            )
            for offset, command in enumerate([reserve_stock("o-2"), release_stock("o-1")])
        ],
        (),
    )  # fmt: skip
    assert metrics.DEAD_LETTERS.labels("stock", "handling_failed")._value.get() == before + 1
    assert await counters(pool) == (3, 1, 1, 5)
