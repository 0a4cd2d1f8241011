"""News of the gateway settled on a real Postgres: many at a time, and each once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from payment.calls import Call, Captured, Declined, Finding, Lease, Pace, Refunded, Silent
from payment.consumers import routes
from payment.outcomes import Outcomes
from payment.settler import FINDINGS_WAITING, Inflow, Settler, TooManyWaitingError
from shared.audit import Source, audit
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import ChargePayment, GrantPoints, RefundPayment
from shared.database.pool import connect_pool
from shared.pipeline.work import Work
from shared.testing.replicas import TRACEPARENT, RecordingRelay, Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime

    from payment.courier import Courier
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database

LEASE = timedelta(seconds=10)
POISON = Finding("payment:\x00", Captured("ch", 51, "KRW"))
"""No text of Postgres holds a NUL."""


def charge(order_id: str) -> ChargePayment:
    return ChargePayment(
        command_id=f"{order_id}:charge:do", order_id=order_id, user_id="u1", amount=60,
        currency="KRW", method=PaymentMethod.GATEWAY, points=9,
    )  # fmt: skip


def refund(order_id: str) -> RefundPayment:
    return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)


def captured(order_id: str) -> Finding:
    return Finding(f"payment:{order_id}", Captured(f"ch-{order_id}", 51, "KRW"))


class Hands:
    """Stands where the courier does: what it is handed is kept and sent nowhere."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.taken: list[Call] = []

    def lease(self, now: datetime) -> Lease:
        return Lease(self.owner, now, now + LEASE, 100)

    def take(self, calls: Sequence[Call], begun_s: float) -> None:
        self.taken += calls


class Instance:
    """Commands, news and hands of one instance."""

    def __init__(self, replica: Replica, hands: Hands, relay: RecordingRelay, work: Work) -> None:
        self.run, self.hands, self.relay = replica.run, hands, relay
        self.inflow = Inflow()
        self.closed: tuple[str, ...] = ()
        courier = cast("Courier", hands)
        self.settler = Settler(
            self.inflow,
            work,
            courier,
            replica.pool,
            currency="KRW",
            pace=Pace(),
            keep_s=5.0,
        )

    async def close(self, order_id: str, operator: str = "ann") -> list[tuple[str, str | None]]:
        """An operator's word; what is said then."""
        self.closed = await self.settler.close(order_id, operator, "gave 60 back")
        return self.said()

    async def settle(self, *findings: Finding) -> list[tuple[str, str | None]]:
        """These answers in one batch; what is said, to which command."""
        for finding in findings:
            self.inflow.put(finding)
        await self.settler.run_once()
        return self.said()

    async def hear(self, *heard: tuple[str, Finding]) -> list[Any]:
        """These callbacks in one batch; what each ended with."""
        hearing = [asyncio.create_task(self.inflow.hear(what, id_)) for id_, what in heard]
        settling = asyncio.create_task(self.settler.run_once())
        ended = await asyncio.gather(*hearing, return_exceptions=True)
        await settling
        return ended

    def said(self) -> list[tuple[str, str | None]]:
        return [(row.message_type, row.message_id) for row in self.relay.take()]


@pytest.fixture
async def instance(database: Database) -> AsyncIterator[Callable[[], Awaitable[Instance]]]:
    async with AsyncExitStack() as stack:

        async def make() -> Instance:
            hands, relay = Hands("payment-0"), RecordingRelay("payment-0")
            outcomes = Outcomes("redis://127.0.0.1:1")
            stack.push_async_callback(outcomes.close)
            pool = connect_pool(database.dsn("payment"), name="payment-0", max_connections=4)
            await stack.enter_async_context(pool)
            table = routes("KRW", cast("Courier", hands), outcomes)
            work = Work(pool, cast("Relay", relay), lease_s=30)
            return Instance(Replica("payment-0", pool, table), hands, relay, work)

        yield make


@pytest.fixture
async def one(instance: Callable[[], Awaitable[Instance]]) -> Instance:
    """With a user who has 900 points."""
    one = await instance()
    await one.run(GrantPoints(command_id="g", user_id="u1", amount=900, currency="KRW"))
    return one


async def states(database: Database) -> dict[str, str]:
    async with database.connection("payment") as connection:
        return dict(await connection.fetch("SELECT order_id, state FROM payment"))  # type: ignore[arg-type]


async def require_sound(database: Database) -> None:
    sources = [Source("payment", "payment")]
    (await audit(database.operator_dsn, sources, only_always=True)).require()


async def require_settled(database: Database) -> None:
    """As far as calls go: what nobody publishes here stays in the outbox."""
    report = await audit(database.operator_dsn, [Source("payment", "payment")])
    wrong = {check.name for check in report.checks if check.violations}
    assert wrong <= {"outbox_is_published"}, report.table()


async def test_a_batch_is_settled_and_each_order_told(database: Database, one: Instance) -> None:
    assert await one.run(*(charge(f"o{n}") for n in range(4)), refund("o3")) != []
    assert [call.key for call in one.hands.taken] == ["payment:o0", "payment:o1", "payment:o2"]
    said = await one.settle(
        captured("o0"), Finding("payment:o1", Declined("lost")), captured("o0"),
        captured("unknown"), Finding("payment:o2", Silent("504"), 1),
    )  # fmt: skip
    assert said == [("PaymentCharged", "o0:charge:do"), ("PaymentRefused", "o1:charge:do")]
    assert await states(database) == {
        "o0": "CAPTURED", "o1": "REFUSED", "o2": "PENDING", "o3": "TOMBSTONE",
    }  # fmt: skip
    await require_sound(database)


async def test_replies_are_traced_to_the_command_they_answer(one: Instance) -> None:
    await one.run(charge("o0"))
    one.inflow.put(captured("o0"))
    await one.settler.run_once()
    (row,) = one.relay.take()
    assert row.traceparent == TRACEPARENT
    assert (row.topic, row.key) == ("payment.replies.v1", b"o0")


async def test_one_poisonous_answer_keeps_no_other_from_being_settled(
    database: Database, one: Instance
) -> None:
    await one.run(*(charge(f"o{n}") for n in range(3)))
    said = await one.settle(captured("o0"), POISON, captured("o1"), captured("o2"))
    assert said == [("PaymentCharged", f"o{n}:charge:do") for n in range(3)]
    await asyncio.wait_for(one.inflow.idle(), 1)
    await require_sound(database)


async def test_a_poisonous_callback_is_answered_with_what_is_wrong_and_the_rest_well(
    database: Database, one: Instance
) -> None:
    await one.run(charge("o0"))
    bad, good = await one.hear(("evt_1", POISON), ("evt_2", captured("o0")))
    assert isinstance(bad, Exception)
    assert good is None
    assert await states(database) == {"o0": "CAPTURED"}
    async with database.connection("payment") as connection:
        events = await connection.fetch("SELECT event_id FROM gateway_event")
    assert [row[0] for row in events] == ["evt_2"], "the other is heard when it comes again"


async def test_a_callback_is_heard_once_whichever_instance_hears_it(
    database: Database, one: Instance, instance: Callable[[], Awaitable[Instance]]
) -> None:
    other = await instance()
    await one.run(charge("o0"), charge("o1"))
    events = [(f"evt_{n}", captured(f"o{n % 2}")) for n in range(40)]
    ended = await asyncio.gather(one.hear(*events), other.hear(*reversed(events)))
    assert ended == [[None] * 40] * 2
    assert sorted(one.said() + other.said()) == [
        ("PaymentCharged", "o0:charge:do"), ("PaymentCharged", "o1:charge:do"),
    ]  # fmt: skip
    twisted = Finding("payment:o0", Captured("ch", 1, "KRW"))
    assert await one.hear(("evt_0", twisted)) == [None], "an id that is known is not looked into"
    assert await states(database) == {"o0": "CAPTURED", "o1": "CAPTURED"}
    await require_sound(database)


async def test_f26_f30_a_late_capture_is_handed_over_to_be_refunded(
    database: Database, one: Instance
) -> None:
    await one.run(charge("o0"), refund("o0"))
    assert await states(database) == {"o0": "TOMBSTONE"}
    assert await one.settle(captured("o0")) == []
    ((key, reference),) = [(call.key, call.reference) for call in one.hands.taken]
    assert (key, reference) == ("refund:o0", "ch-o0")
    assert await one.settle(Finding("refund:o0", Refunded(51, "KRW"))) == []
    assert await states(database) == {"o0": "REFUNDED"}
    await require_sound(database)


async def test_f15_news_and_the_refund_of_one_order_race(
    database: Database, one: Instance, instance: Callable[[], Awaitable[Instance]]
) -> None:
    other = await instance()
    orders = [f"o{n}" for n in range(30)]
    await one.run(*map(charge, orders))
    for order in orders:
        _, rows = await asyncio.gather(one.settle(captured(order)), other.run(refund(order)))
        assert rows == []
    assert await states(database) == dict.fromkeys(orders, "REFUNDING")
    given_back = [Finding(f"refund:{order}", Refunded(51, "KRW")) for order in orders]
    said = await other.settle(*given_back)
    assert said == [("PaymentRefunded", f"{order}:charge:undo") for order in orders]
    async with database.connection("payment") as connection:
        assert await connection.fetchval("SELECT points FROM wallet") == 900
    await require_sound(database)


TOO_MUCH = Captured("ch-o0", 60, "KRW")


async def closures(database: Database) -> dict[str, tuple[str, str | None, str | None, bool]]:
    """State, who closed it and why, and whether that was a moment ago, by key."""
    async with database.connection("payment") as connection:
        rows = await connection.fetch(
            "SELECT key, state, closed_by, closed_note,"
            " coalesce(closed_at > now() - interval '1 min', false) FROM gateway_call"
        )
    return {key: tuple(told) for key, *told in rows}


CLOSED = ("ann", "gave 60 back", True)
NOT_CLOSED = (None, None, False)


async def quarantined(database: Database, one: Instance, state: str) -> None:
    """The payment of o0 in this state, with a call that is quarantined."""
    if state in ("PENDING", "CANCELLING"):
        await one.run(charge("o0"))
        await one.settle(Finding("payment:o0", TOO_MUCH))
        if state == "CANCELLING":
            await one.run(refund("o0"))
    elif state == "REFUSED":
        await one.run(charge("o0"))
        await one.settle(Finding("payment:o0", Declined("lost")), captured("o0"))
    elif state == "TOMBSTONE":
        await one.run(charge("o0"), refund("o0"))
        await one.settle(Finding("payment:o0", TOO_MUCH))
    else:
        await one.run(charge("o0"))
        await one.settle(captured("o0"))
        await one.run(refund("o0"))
        await one.settle(Finding("refund:o0", Refunded(50, "KRW")))
    assert await states(database) == {"o0": state}


@pytest.mark.parametrize(
    ("state", "then", "said", "calls"),
    [
        ("PENDING", "REFUSED", ("PaymentRefused", "o0:charge:do"),
         {"payment:o0": ("DECLINED", *CLOSED)}),
        ("CANCELLING", "TOMBSTONE", ("PaymentRefunded", "o0:charge:undo"),
         {"payment:o0": ("DECLINED", *CLOSED), "refund:o0": ("VOID", *NOT_CLOSED)}),
        ("REFUNDING", "REFUNDED", ("PaymentRefunded", "o0:charge:undo"),
         {"payment:o0": ("SUCCEEDED", *NOT_CLOSED), "refund:o0": ("SUCCEEDED", *CLOSED)}),
        ("REFUSED", "REFUSED", None, {"payment:o0": ("DECLINED", *CLOSED)}),
        ("TOMBSTONE", "TOMBSTONE", None,
         {"payment:o0": ("DECLINED", *CLOSED), "refund:o0": ("VOID", *NOT_CLOSED)}),
    ],
)  # fmt: skip
async def test_f32_an_operator_closes_what_is_quarantined(
    database: Database, one: Instance, state: str, then: str,
    said: tuple[str, str] | None, calls: dict[str, Any],
) -> None:  # fmt: skip
    await quarantined(database, one, state)
    assert await one.close("o0") == ([said] if said else [])
    assert len(one.closed) == 1
    assert await states(database) == {"o0": then}
    assert await closures(database) == calls
    await require_settled(database)


async def test_what_is_not_quarantined_is_not_closed(database: Database, one: Instance) -> None:
    await one.run(charge("o0"))
    for order_id in ("o0", "o404"):
        assert await one.close(order_id) == []
        assert one.closed == ()
    assert await closures(database) == {"payment:o0": ("INTENDED", *NOT_CLOSED)}


async def at_once(database: Database, *work: Coroutine[Any, Any, Any]) -> list[Any]:
    """What these come to; none goes on before all of them have come to the rows of o0."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with database.connection("payment") as held, database.connection() as watching:
        async with held.transaction():
            await held.execute("SELECT 1 FROM payment FOR UPDATE")
            await held.execute("SELECT 1 FROM gateway_call FOR UPDATE")
            tasks = [asyncio.create_task(one) for one in work]
            async with asyncio.timeout(20):
                while await watching.fetchval(waiting) < len(tasks):
                    pass
        return await asyncio.gather(*tasks)


async def test_of_two_closes_at_once_one_wins(
    database: Database, one: Instance, instance: Callable[[], Awaitable[Instance]]
) -> None:
    other = await instance()
    await quarantined(database, one, "PENDING")
    said = await at_once(database, one.close("o0"), other.close("o0", "bob"))
    assert sorted(said) == [[], [("PaymentRefused", "o0:charge:do")]]
    winner = "ann" if one.closed else "bob"
    assert sorted([one.closed, other.closed]) == [(), ("payment:o0",)]
    assert (await closures(database))["payment:o0"][1] == winner
    await require_sound(database)


@pytest.mark.parametrize("late", [TOO_MUCH, Declined("returned")], ids=["captured", "returned"])
async def test_a_close_beside_a_callback_settles_once(
    database: Database, one: Instance, instance: Callable[[], Awaitable[Instance]], late: Any
) -> None:
    other = await instance()
    await quarantined(database, one, "PENDING")
    ended, said = await at_once(
        database, other.hear(("evt_9", Finding("payment:o0", late))), one.close("o0")
    )
    assert ended == [None]
    assert said + other.said() == [("PaymentRefused", "o0:charge:do")]
    assert await states(database) == {"o0": "REFUSED"}
    await require_settled(database)


async def test_a_payment_can_be_closed_where_no_gateway_is_configured(
    database: Database, one: Instance
) -> None:
    await quarantined(database, one, "PENDING")
    one.settler._courier = None
    assert await one.close("o0") == [("PaymentRefused", "o0:charge:do")]
    assert await states(database) == {"o0": "REFUSED"}


async def test_callbacks_are_turned_away_while_too_many_wait(one: Instance) -> None:
    for _ in range(FINDINGS_WAITING):
        one.inflow.put(captured("o0"))
    with pytest.raises(TooManyWaitingError):
        await one.inflow.hear(captured("o0"), "evt_1")
