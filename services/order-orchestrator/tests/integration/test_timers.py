"""Timers, admission and parked commands, on real rows and by the database's clock."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from order_orchestrator.domain import Limits, SagaState
from shared.contracts.payment import RefundPayment
from shared.contracts.stock import ReleaseStock
from shared.testing.builders import cancel_order, pay_order, place_order
from shared.testing.signals import Gate, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.pipeline.outbox import Row

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import MakeReplica, Replica

    Said = Callable[[Sequence[Row]], list[str]]

pytestmark = pytest.mark.usefixtures("sound")

QUICK = Limits(
    resend_after=timedelta(milliseconds=1),
    resend_at_most=timedelta(milliseconds=1),
    order_deadline=timedelta(milliseconds=2),
    pay_deadline=timedelta(milliseconds=1),
    reading_grace=timedelta(0),
    undo_sends=3,
)
"""Every timer is due at once."""
NOTHING_READ = datetime.min.replace(tzinfo=UTC)


async def all_due(one: Replica, sagas: int) -> None:
    """Returns once the timers of so many sagas have passed."""
    await eventually(
        lambda: one.value("SELECT count(*) FROM saga WHERE timer_at <= clock_timestamp()"),
        describe=f"{sagas} timers are due",
        accept=lambda due: due == sagas,
    )


async def make_due(one: Replica) -> None:
    """All that is out was sent an hour ago. Only instances that remember nothing may go on: the
    version stays."""
    await one.execute(
        "UPDATE saga SET timer_at = now() - interval '1 hour',"
        " progress = (progress::jsonb || jsonb_build_object("
        " 'lastSentAt', now() - interval '1 hour', 'deadlineAt', now() - interval '1 hour'))::json"
    )


async def fire_until(one: Replica, order_id: str, state: SagaState) -> list[Row]:
    """Fires timers until the order is in `state`, or stuck; what was written meanwhile."""

    async def look() -> bool:
        await one.fire()
        saga = await one.saga(order_id)
        return saga.state is state or saga.stuck is not None

    await eventually(look, describe=f"{order_id} is {state} or stuck")
    return one.recorder.take()


class TestTimers:
    async def test_each_fires_once_on_two_instances(self, replica: MakeReplica, said: Said) -> None:
        orders = [f"o-{number:03}" for number in range(450)]
        await (await replica()).run(*[place_order(order) for order in orders])
        one, two = await replica(), await replica()
        await make_due(one)

        async def drain(instance: Replica) -> int:
            fired = 0
            while now := await instance.fire():
                fired += now
            return fired

        fired = await asyncio.gather(drain(one), drain(two))
        assert sum(fired) == 450
        again = Counter(said([*one.recorder.take(), *two.recorder.take()]))
        assert again == Counter(f"{order}:reserve:do" for order in orders)

    async def test_an_instance_in_mid_pass_holds_up_no_other(
        self, replica: MakeReplica, said: Said
    ) -> None:
        """SKIP LOCKED: what one works on is left out by the other, which does not wait for it."""
        await (await replica()).run(place_order("o-1"))
        one, two = await replica(), await replica()
        await make_due(one)
        gate = Gate("between load and save")
        one.gates.append(gate)
        firing = asyncio.create_task(one.fire())
        await gate.reached()
        async with asyncio.timeout(1):
            assert await two.fire() == 0
        gate.open()
        assert await firing == 1
        assert await two.fire() == 0

    async def test_f18_what_came_due_while_all_was_down_is_spread_out(
        self, replica: MakeReplica
    ) -> None:
        await (await replica()).run(*[place_order(f"o-{number:03}") for number in range(100)])
        one = await replica()
        await make_due(one)
        assert await one.fire() == 100
        states = await one.value("SELECT array_agg(DISTINCT state) FROM saga")
        assert states == ["RESERVING"], "none is given up before its command was sent again"
        spread_s = await one.value(
            "SELECT extract(epoch FROM max(timer_at) - min(timer_at))::float8 FROM saga"
        )
        # half of the delay, 5 s: at most the first share of orders comes due together
        assert spread_s > 2

    async def test_f18_replies_that_wait_to_be_read_undo_no_order(
        self, replica: MakeReplica, answers: Answers
    ) -> None:
        one = await replica(QUICK)
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        for _ in range(5):
            await all_due(one, 1)
            await one.fire(replies=NOTHING_READ)
        assert (await one.saga("o-1")).state is SagaState.RESERVING
        one.recorder.take()
        (charge,) = one.commands(await one.run(answers.done(reserve)))
        assert charge.type == "ChargePayment"

    async def test_a_step_that_stays_unanswered_is_undone(
        self, replica: MakeReplica, said: Said
    ) -> None:
        one = await replica(QUICK)
        await one.run(place_order("o-1"))
        rows = said(await fire_until(one, "o-1", SagaState.COMPENSATING))
        assert rows[-1] == "o-1:reserve:undo"
        assert "o-1:reserve:do" in rows[:-1], "it was sent again first"

    async def test_f20_an_undo_that_nobody_answers_is_stuck(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        one = await replica(QUICK)
        (reserve,) = one.commands(await one.run(place_order("o-1")))
        (charge,) = one.commands(await one.run(answers.done(reserve)))
        (release,) = one.commands(await one.run(answers.refused(charge)))
        sent = said(await fire_until(one, "o-1", SagaState.REJECTED))
        assert sent == ["o-1:reserve:undo"] * 2  # three in all
        saga = await one.saga("o-1")
        assert saga.stuck is not None
        assert saga.state is SagaState.COMPENSATING
        assert saga.timer_at is None
        assert await one.value("SELECT count(*) FROM saga WHERE stuck_since IS NOT NULL") == 1
        # a late answer ends it all the same
        assert said(await one.run(answers.done(release))) == ["o-1:OrderRejected"]
        assert (await one.saga("o-1")).stuck is None

    async def test_a_charge_at_the_gateway_is_held_for_its_window_and_then_given_up(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        patient = await replica(replace(QUICK, settlement_window=timedelta(hours=1)))
        orders = [place_order("o-1", method="gateway"), place_order("o-2")]
        reserves = patient.commands(await patient.run(*orders))
        charges = patient.commands(await patient.run(*map(answers.done, reserves)))
        assert [charge.method for charge in charges] == ["gateway", "wallet"]
        await fire_until(patient, "o-2", SagaState.COMPENSATING)
        before = (await patient.saga("o-1")).sends
        await all_due(patient, 2)
        await patient.fire()
        held = await patient.saga("o-1")
        assert held.state is SagaState.CHARGING, "past its deadline like the other"
        assert held.sends > before, "and still asked for"

        window = timedelta(milliseconds=300)
        hasty = await replica(replace(QUICK, settlement_window=window))
        rows = said(await fire_until(hasty, "o-1", SagaState.COMPENSATING))
        assert rows[-2:] == ["o-1:charge:undo", "o-1:reserve:undo"]
        assert held.deadline_at is not None
        given_up_at = await hasty.value(
            "SELECT at FROM saga_history WHERE order_id = 'o-1' ORDER BY version DESC LIMIT 1"
        )
        assert given_up_at >= held.deadline_at + window

        # payment answers once it knows; the charge that it found out about changes nothing
        release, refund = (
            ReleaseStock(command_id="o-1:reserve:undo", order_id="o-1"),
            RefundPayment(command_id="o-1:charge:undo", order_id="o-1"),
        )
        assert said(await hasty.run(answers.done(release), answers.done(charges[0]))) == []
        (rejected,) = await hasty.run(answers.done(refund))
        assert rejected.message_id == "o-1:OrderRejected"
        assert json.loads(rejected.value)["reason"] == "payment_timeout"

    async def test_never_paid_is_rejected_once_all_commands_up_to_then_were_read(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        one = await replica(QUICK)
        (reserve,) = one.commands(await one.run(place_order("o-1", pay="later")))
        assert said(await one.run(answers.done(reserve))) == ["o-1:OrderAwaitingPayment"]
        for _ in range(3):
            await all_due(one, 1)
            await one.fire(requests=NOTHING_READ)
        assert (await one.saga("o-1")).state is SagaState.AWAITING_PAYMENT
        rows = said(await fire_until(one, "o-1", SagaState.COMPENSATING))
        assert rows == ["o-1:reserve:undo"]


class TestAdmission:
    async def test_the_limit_is_kept_and_pending_orders_start_in_their_order(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        one = await replica(sagas_waiting=3)
        orders = [f"o-{number}" for number in range(6)]
        started = one.commands(await one.run(*[place_order(order) for order in orders[:5]]))
        assert [command.order_id for command in started] == orders[:3]
        await one.run(place_order(orders[5]))
        assert await one.admit() == 0, "no room"
        assert await waiting(one) == (3, 3)

        rows = await one.run(*[answers.refused(command) for command in started[:2]])
        assert said(rows) == ["o-0:OrderRejected", "o-1:OrderRejected"]
        assert one.admission.freed.is_set()
        assert await one.admit() == 2
        begun = one.commands(one.recorder.take())
        assert [command.command_id for command in begun] == ["o-3:reserve:do", "o-4:reserve:do"]
        assert await waiting(one) == (3, 1)

    async def test_deadlines_run_from_the_first_step(self, replica: MakeReplica) -> None:
        one = await replica(sagas_waiting=1)
        await one.run(place_order("o-1"), place_order("o-2"))
        assert (await one.saga("o-2")).deadline_at is None
        await one.execute("UPDATE saga SET accepted_at = now() - interval '1 hour'")
        one.admission.left(1)
        two = await replica(sagas_waiting=2)
        await two.admit()
        saga = await one.saga("o-2")
        assert saga.state is SagaState.RESERVING
        assert saga.deadline_at is not None
        assert saga.deadline_at > datetime.now(UTC)

    async def test_two_instances_start_each_pending_order_once(
        self, replica: MakeReplica, said: Said
    ) -> None:
        one = await replica(sagas_waiting=0)
        await one.run(*[place_order(f"o-{number:02}") for number in range(60)])
        assert await waiting(one) == (0, 60)
        instances = [await replica(sagas_waiting=100), await replica(sagas_waiting=100)]
        await asyncio.gather(*[instance.admit() for instance in instances])
        for instance in instances:
            await instance.admit()  # whoever lost the race looks again
        begun = Counter(said([row for each in instances for row in each.recorder.take()]))
        assert begun == Counter(f"o-{number:02}:reserve:do" for number in range(60))

    async def test_nothing_starts_before_the_first_count(self, replica: MakeReplica) -> None:
        one = await replica()
        fresh = type(one.admission)(10)
        assert not fresh.begin().try_start()
        fresh.counted(0, pending=False)
        assert fresh.begin().try_start()

    async def test_who_waits_longer_goes_first(self, replica: MakeReplica) -> None:
        """Room alone is not enough for a new order, while others are queued."""
        one = await replica(sagas_waiting=1)
        await one.run(place_order("o-1"), place_order("o-2"))
        one.admission.left(1)
        assert one.admission.room == 1
        assert one.commands(await one.run(place_order("o-3"))) == []

    async def test_a_cancelled_pending_order_never_starts(
        self, replica: MakeReplica, said: Said
    ) -> None:
        one = await replica(sagas_waiting=0)
        await one.run(place_order("o-1"))
        assert said(await one.run(cancel_order("o-1"))) == ["o-1:OrderCancelled"]
        two = await replica()
        assert await two.admit() == 0

    async def test_stuck_sagas_and_those_that_await_payment_take_no_place(
        self, replica: MakeReplica, answers: Answers
    ) -> None:
        one = await replica(sagas_waiting=2)
        commands = one.commands(await one.run(place_order("o-1", pay="later"), place_order("o-2")))
        await one.run(answers.done(commands[0]))
        await one.dead_letter(commands[1])
        assert (await one.saga("o-2")).stuck is not None
        assert await waiting(one) == (0, 0)


class TestOneSagaAtFault:
    """It would come first in every later pass, so that no other had its turn."""

    async def spoil(self, one: Replica) -> None:
        """The next version of o-2 can't be stored."""
        await one.execute(
            "ALTER TABLE saga ADD CONSTRAINT planted CHECK (order_id <> 'o-2' OR version = 1)"
        )

    async def mend(self, one: Replica) -> None:
        await one.execute("ALTER TABLE saga DROP CONSTRAINT planted")

    async def test_timers_of_the_others_fire(self, replica: MakeReplica) -> None:
        one = await replica()
        await one.run(*[place_order(f"o-{n}") for n in (1, 2, 3)])
        await self.spoil(one)
        await make_due(one)
        two = await replica()
        assert await two.fire() == 3
        sagas = [await two.saga(f"o-{n}") for n in (1, 2, 3)]
        assert [saga.sends for saga in sagas] == [2, 1, 2]
        assert sagas[1].stuck is not None
        assert "CheckViolationError" in sagas[1].stuck.why
        assert sagas[1].timer_at is None
        assert await two.fire() == 0
        await self.mend(one)

    async def test_the_others_start(self, replica: MakeReplica) -> None:
        one = await replica(sagas_waiting=0)
        await one.run(*[place_order(f"o-{n}") for n in (1, 2, 3)])
        await self.spoil(one)
        two = await replica()
        assert await two.admit() == 3
        states = [(await two.saga(f"o-{n}")).state for n in (1, 2, 3)]
        assert states == [SagaState.RESERVING, SagaState.PENDING, SagaState.RESERVING]
        assert await two.admit() == 0
        await self.mend(one)

    async def test_an_instance_that_remembers_it_sees_that_it_was_set_aside(
        self, replica: MakeReplica
    ) -> None:
        one = await replica()
        await one.run(place_order("o-1"))
        async with (await replica()).transaction() as store:
            await store.set_aside("o-1", "by a newer version")
        async with one.transaction() as store:
            sagas, _ = await store.lock_sagas(["o-1"])
        stuck = sagas["o-1"].stuck
        assert stuck is not None
        assert stuck.why == "by a newer version"


class TestParkedCommands:
    async def test_f2_a_payment_before_its_order(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        one = await replica()
        assert await one.run(pay_order("o-1")) == []
        assert await one.value("SELECT count(*) FROM parked_command") == 1
        (reserve,) = one.commands(await one.run(place_order("o-1", pay="later")))
        assert await one.value("SELECT count(*) FROM parked_command") == 0
        assert said(await one.run(answers.done(reserve))) == ["o-1:charge:do"]

    async def test_f2_a_cancellation_before_its_order_starts_nothing(
        self, replica: MakeReplica, said: Said
    ) -> None:
        one = await replica()
        assert await one.run(cancel_order("o-1", reason="no")) == []
        rows = said(await one.run(place_order("o-1")))
        assert rows == ["o-1:OrderAccepted", "o-1:OrderCancelled"]

    async def test_f2_in_one_chunk_and_twice(self, replica: MakeReplica, said: Said) -> None:
        one = await replica()
        early = cancel_order("o-1"), pay_order("o-1"), cancel_order("o-1")
        rows = said(await one.run(*early, place_order("o-1", pay="later")))
        assert rows == ["o-1:OrderAccepted", "o-1:OrderCancelled", "refused too_late"]
        assert await one.value("SELECT count(*) FROM parked_command") == 0

    async def test_f1_parked_twice_is_kept_once(self, replica: MakeReplica) -> None:
        one = await replica()
        await one.run(pay_order("o-1"))
        await one.run(pay_order("o-1"), pay_order("o-1", command_id="another"))
        assert await one.value("SELECT count(*) FROM parked_command") == 2

    async def test_another_users_cancellation_is_refused_when_the_order_comes(
        self, replica: MakeReplica, said: Said
    ) -> None:
        one = await replica()
        await one.run(cancel_order("o-1", user_id="stranger"))
        rows = said(await one.run(place_order("o-1")))
        assert rows == ["o-1:OrderAccepted", "refused unknown_order"]
        # an order that is about to be cancelled is not started at once; this one is, at the count
        one.admission.counted(0, pending=True)
        assert await one.admit() == 1

    async def test_it_expires_and_is_answered(self, replica: MakeReplica, said: Said) -> None:
        one = await replica()
        await one.run(pay_order("o-1"), cancel_order("o-2"))
        assert await one.sweep_parked() == 0
        await one.execute("UPDATE parked_command SET parked_at = parked_at - interval '1 day'"
                          " WHERE order_id = 'o-1'")  # fmt: skip
        assert await one.sweep_parked() == 1
        assert said(one.recorder.take()) == ["refused unknown_order"]
        # the order that comes after all is not paid
        await one.run(place_order("o-1", pay="later"))
        assert (await one.saga("o-1")).pay_command_id is None
        assert await one.value("SELECT count(*) FROM parked_command") == 1

    async def test_two_instances_expire_each_once(self, replica: MakeReplica, said: Said) -> None:
        one, two = await replica(), await replica()
        await one.run(*[pay_order(f"o-{number}") for number in range(20)])
        await eventually(
            lambda: one.value("SELECT max(parked_at) < clock_timestamp() FROM parked_command")
        )
        await asyncio.gather(one.sweep_parked(0), two.sweep_parked(0))
        await one.sweep_parked(0)
        rows = [*one.recorder.take(), *two.recorder.take()]
        assert len({row.key for row in rows}) == len(rows) == 20


async def waiting(one: Replica) -> tuple[int, int]:
    """(sagas that wait for a reply, sagas that wait for admission)"""
    return (
        await one.value("SELECT count(*) FROM saga WHERE waiting"),
        await one.value("SELECT count(*) FROM saga WHERE pending_since IS NOT NULL"),
    )


async def test_f13_a_reservation_after_it_was_given_up_is_released_once(
    replica: MakeReplica, answers: Answers, said: Said
) -> None:
    one = await replica(QUICK)
    (reserve,) = one.commands(await one.run(place_order("o-1")))
    await fire_until(one, "o-1", SagaState.COMPENSATING)
    assert await one.run(answers.done(reserve)) == [], "the release that is out covers it"
    release = ReleaseStock(command_id="o-1:reserve:undo", order_id="o-1")
    assert said(await one.run(answers.nothing(release))) == ["o-1:OrderRejected"]
    assert said(await one.run(answers.done(reserve))) == ["o-1:reserve:undo"]
    assert await one.run(answers.done(reserve)) == []
    assert await one.run(answers.nothing(release)) == []  # as it is stored there
    assert await one.run(answers.done(reserve)) == []
    saga = await one.saga("o-1")
    assert (saga.state, saga.steps[0], saga.timer_at) == ("REJECTED", "undone", None)
