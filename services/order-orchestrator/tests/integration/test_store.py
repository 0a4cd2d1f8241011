"""Sagas as rows: written and read back, remembered by version, and a late writer loses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from order_orchestrator.domain import (
    Cancel,
    CancelledBy,
    Ending,
    Limits,
    Price,
    SagaState,
    StepStatus,
    Stuck,
    Told,
)
from order_orchestrator.events import HistoryEntry
from order_orchestrator.intake import Arrival, accept
from order_orchestrator.store import SagaMemory, queries
from shared.contracts.coupon import CouponRefusal
from shared.contracts.order_parts import CouponDetail, LineDetail, OutcomeReason, PricedLine
from shared.database import Write, write_all
from shared.pipeline import Conflict
from shared.testing.builders import place_order
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from order_orchestrator.chunk import SagaChunk
    from order_orchestrator.domain import Saga
    from order_orchestrator.store import Store

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import MakeReplica, Replica

pytestmark = pytest.mark.usefixtures("sound")

NOW = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def new_saga(order_id: str = "o-1", **fields: object) -> Saga:
    place = place_order(order_id, coupon_id="WELCOME10", items={"P2": 1, "P1": 3}, **fields)
    arrival = Arrival(NOW, "KRW", place.fingerprint(), "00-trace")
    return accept(place, arrival, Limits(), start=True).saga


def rich_saga() -> Saga:
    """Every column and every optional part filled; no real saga has all of it at once."""
    saga = new_saga("rich", reference="R\N{SNOWMAN}'\"\\", expected_total=4, points=7)
    priced = tuple(
        PricedLine(product_id=line.product_id, quantity=line.quantity, unit_price=10**9)
        for line in saga.order.lines
    )
    return saga._replace(
        version=2**40,
        state=SagaState.COMPENSATING,
        steps=tuple(list(StepStatus)[2:7]),
        price=Price(priced, 4 * 10**9, 5),
        pay_command_id="rich:pay",
        cancel=Cancel(CancelledBy.OPERATOR, "why \N{HANGUL SYLLABLE GA}"),
        ending=Ending(
            SagaState.CANCELLED,
            OutcomeReason.CANCELLED_BY_OPERATOR,
            (
                LineDetail(product_id="P1", requested=3, available=0),
                CouponDetail(coupon_reason=CouponRefusal.EXPIRED),
            ),
            "a note",
        ),
        told=Told(3, NOW),
        stuck=Stuck(NOW, "because"),
        sends=9,
        last_sent_at=NOW,
        deadline_at=NOW + timedelta(seconds=1),
        pay_by=NOW + timedelta(seconds=2),
        timer_at=NOW + timedelta(seconds=3),
    )


def saved_by(chunk: SagaChunk, store: Store) -> list[Write]:
    return [item for item in chunk.save(store) if isinstance(item, Write)]


async def write_and_forget(one: Replica, saga: Saga) -> None:
    """In a transaction that leaves nothing behind, a saga is stored and read back."""
    async with one.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        store = one.sagas.store(connection)
        await write_all(store._connection, [store.insert([saga], {saga.order.order_id: ()})])
        locked, _ = await store.lock_sagas([saga.order.order_id])
        assert locked == {saga.order.order_id: saga}
        await transaction.rollback()


async def test_a_saga_is_read_back_as_it_was_written(replica: MakeReplica) -> None:
    one = await replica()
    for saga in (new_saga(), rich_saga()):
        await write_and_forget(one, saga)


async def test_an_updated_saga_is_read_back_too(replica: MakeReplica) -> None:
    one = await replica()
    before = new_saga("rich")
    after = rich_saga()._replace(order=before.order)
    async with one.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        store = one.sagas.store(connection)
        await write_all(store._connection, [store.insert([before], {"rich": ()})])
        await write_all(store._connection, [store.update([(before.version, after)], {"rich": ()})])
        assert (await store.lock_sagas(["rich"]))[0] == {"rich": after}
        await transaction.rollback()


async def test_an_order_that_another_instance_stored_is_a_conflict(replica: MakeReplica) -> None:
    one = await replica()
    await one.run(place_order("o-1"))
    with pytest.raises(Conflict):
        async with one.transaction() as store:
            await write_all(
                store._connection,
                [store.insert([new_saga("o-1"), new_saga("o-2")], {"o-1": (), "o-2": ()})],
            )
    assert await one.value("SELECT count(*) FROM saga") == 1


async def test_f19_compare_and_swap_the_late_writer_loses(replica: MakeReplica) -> None:
    one = await replica()
    await one.run(place_order("o-1"), place_order("o-2"))
    sagas = [await one.saga(order_id) for order_id in ("o-1", "o-2")]
    await one.execute("UPDATE saga SET version = version + 1 WHERE order_id = 'o-2'")
    changed = [(saga.version, saga._replace(version=saga.version + 1)) for saga in sagas]
    with pytest.raises(Conflict):
        async with one.transaction() as store:
            await write_all(store._connection, [store.update(changed, {"o-1": (), "o-2": ()})])
    # neither was written: the transaction stands and falls as one
    assert (await one.saga("o-1")).version == sagas[0].version
    await one.execute("UPDATE saga SET version = version - 1 WHERE order_id = 'o-2'")


async def test_history_is_added_to(replica: MakeReplica) -> None:
    """By the insert and by each update, several lines at once; a note may hold anything."""
    one = await replica()
    notes = [None, 'two\nlines, a "quote" and a \\', "\N{SNOWMAN}", ""]
    entries = [
        HistoryEntry(version, SagaState.RESERVING, "test", NOW, note)
        for version, note in enumerate(notes, 1)
    ]
    async with one.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        store = one.sagas.store(connection)
        await write_all(store._connection, [store.insert([new_saga()], {"o-1": entries[:2]})])
        await write_all(
            store._connection,
            [store.update([(1, new_saga()._replace(version=4))], {"o-1": entries[2:]})],
        )
        rows = await queries.read_history.rows(connection, order_id="o-1")
        assert [HistoryEntry(*row) for row in rows] == entries
        await transaction.rollback()


async def test_the_clock_is_read_once_all_locks_are_held(replica: MakeReplica) -> None:
    one, two = await replica(), await replica()
    await one.run(place_order("o-1"), place_order("o-2"))
    async with two.transaction() as waiting:
        async with one.transaction() as first:
            await first.lock_sagas(["o-2"])
            blocked = asyncio.create_task(waiting.lock_sagas(["o-1", "o-2"]))
            await eventually(
                lambda: one.value("SELECT count(*) FROM pg_locks WHERE NOT granted"),
                describe="the other instance waits",
            )
            until = await first.now()
        locked, now = await blocked
    assert set(locked) == {"o-1", "o-2"}
    assert now > until


async def test_locks_are_taken_in_key_order(replica: MakeReplica) -> None:
    one, two = await replica(), await replica()
    orders = ["o-1", "o-2", "o-3"]
    await one.run(*map(place_order, orders))
    async with one.transaction() as first:
        await first.lock_sagas(["o-2"])
        blocked = asyncio.create_task(two.run(*[place_order(order) for order in orders[::-1]]))
        await eventually(
            lambda: one.value("SELECT count(*) FROM pg_locks WHERE NOT granted"),
            describe="the other instance waits",
        )
        # it holds o-1, waits for o-2 and has not touched o-3
        free = await first._connection.fetch(
            "SELECT order_id FROM saga ORDER BY order_id FOR UPDATE SKIP LOCKED"
        )
        assert [row["order_id"] for row in free] == ["o-2", "o-3"]
    await blocked


class TestMemory:
    async def test_a_remembered_saga_is_not_read_again(
        self, replica: MakeReplica, answers: Answers
    ) -> None:
        one = await replica()
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        progress = await one.value("SELECT progress FROM saga")
        await one.execute("UPDATE saga SET progress = '{}'")  # nobody can read this
        assert one.commands(await one.run(answers.done(reserve)))[0].type == "ChargePayment"
        assert await one.value("SELECT progress FROM saga") != progress

    async def test_another_version_is_read(self, replica: MakeReplica, answers: Answers) -> None:
        one, two = await replica(), await replica()
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        (charge,) = two.commands(await two.run(answers.done(reserve)))
        stale = one.memory.get("o-1", 1, stuck=False)
        assert stale is not None
        assert stale.state is SagaState.RESERVING
        (commit,) = one.commands(await one.run(answers.done(charge)))
        assert commit.type == "CommitStock"
        assert (await one.saga("o-1")).version == 3

    async def test_what_is_rolled_back_leaves_no_trace(
        self, replica: MakeReplica, answers: Answers
    ) -> None:
        one = await replica()
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        before = one.memory.get("o-1", 1, stuck=False)
        async with one.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            store = one.sagas.store(connection)
            chunk = await one.sagas.load(store, ["o-1"])
            assert chunk.get("o-1") is before
            chunk.apply(chunk.loaded["o-1"], answers.done(reserve))
            await write_all(store._connection, saved_by(chunk, store))
            await transaction.rollback()
        assert one.memory.get("o-1", 1, stuck=False) is before
        assert one.memory.get("o-1", 2, stuck=False) is None
        assert [row.message_id for row in await one.run(answers.done(reserve))] == ["o-1:charge:do"]

    async def test_f47_what_was_committed_unheard_is_read_from_its_row(
        self, replica: MakeReplica, answers: Answers
    ) -> None:
        one = await replica()
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        async with one.transaction() as store:
            chunk = await one.sagas.load(store, ["o-1"])
            chunk.apply(chunk.loaded["o-1"], answers.done(reserve))
            await write_all(store._connection, saved_by(chunk, store))
        # committed, and its `Committed` never done, as where the reply to COMMIT is lost
        assert one.memory.get("o-1", 2, stuck=False) is None
        assert await one.run(answers.done(reserve)) == []
        assert await one.history("o-1") == [
            (1, "RESERVING", "PlaceOrder"),
            (2, "CHARGING", "StockReserved"),
        ]

    async def test_ended_sagas_and_the_oldest_are_forgotten(self) -> None:
        memory = SagaMemory(2)
        sagas = [new_saga(f"o-{number}") for number in range(3)]
        memory.remember(sagas)
        found = [memory.get(saga.order.order_id, saga.version, stuck=False) for saga in sagas]
        assert found == [None, *sagas[1:]]
        memory.remember([sagas[2]._replace(state=SagaState.REJECTED)])
        assert memory.get("o-2", sagas[2].version, stuck=False) is None
        assert memory.get("o-1", sagas[1].version + 1, stuck=False) is None
