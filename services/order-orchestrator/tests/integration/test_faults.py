"""Instances that freeze, rows that can't be read, and commands of the same order at one time."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from order_orchestrator.domain import SagaState
from shared.contracts.reading import Unreadable
from shared.testing.builders import cancel_order, pay_order, place_order
from shared.testing.signals import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.pipeline.outbox import Row

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import MakeReplica, Replica

    Said = Callable[[Sequence[Row]], list[str]]


@pytest.mark.usefixtures("sound")
class TestTwoInstances:
    async def test_f19_a_frozen_instance_loses_its_rows_and_reloads(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        """One reads o-1 and o-2 and stands still; the other goes on with o-2 after 2 s."""
        frozen, other = await replica(), await replica()
        first = frozen.commands(await frozen.run(place_order("o-1"), place_order("o-2")))
        gate = Gate("between load and save")
        frozen.gates.append(gate)
        late = asyncio.create_task(frozen.run(*map(answers.done, first)))
        await gate.reached()

        (charge,) = other.commands(await other.run(answers.done(first[1])))
        assert charge.command_id == "o-2:charge:do"
        outcome = said(await other.run(answers.done(charge)))
        assert outcome == ["o-2:commit:do", "o-2:OrderConfirmed"]

        gate.open()
        # its write failed, it read both again: o-2 had moved on, o-1 had not
        assert said(await late) == ["o-1:charge:do"]
        assert (await frozen.saga("o-2")).state is SagaState.COMPLETING
        assert (await frozen.saga("o-1")).state is SagaState.CHARGING

    async def test_f19_two_instances_take_every_reply_of_the_same_orders(
        self, replica: MakeReplica, answers: Answers, said: Said
    ) -> None:
        """Each chunk goes to both at once, in another order: each command is written once."""
        instances = [await replica(), await replica()]
        orders = [f"o-{number:02}" for number in range(30)]
        rows = await instances[0].run(*[place_order(order) for order in orders])
        written = said(rows)
        while commands := instances[0].commands(rows):
            replies = [answers.done(command) for command in commands]
            both = await asyncio.gather(
                instances[0].run(*replies), instances[1].run(*replies[::-1])
            )
            rows = [row for part in both for row in part]
            written += said(rows)
        assert len(written) == len(set(written)) == 30 * 5  # accepted, 3 commands, confirmed
        for order in orders:
            assert (await instances[0].saga(order)).state is SagaState.CONFIRMED

    async def test_f2_place_and_pay_by_two_instances_at_once(
        self, replica: MakeReplica, said: Said
    ) -> None:
        """The payment finds no order, and is parked after the order looked for what is parked."""
        one, two = await replica(), await replica()
        gate = Gate("between load and save")
        two.gates.append(gate)
        paying = asyncio.create_task(two.run(pay_order("o-1")))
        await gate.reached()
        await one.run(place_order("o-1", pay="later"))
        gate.open()
        assert await paying == []
        assert (await one.saga("o-1")).pay_command_id is None
        assert await one.sweep_parked() == 1
        assert await one.sweep_parked() == 0
        assert (await one.saga("o-1")).pay_command_id == "o-1:pay"


class TestUnreadableRows:
    """F21: a row that this code can't read is set aside, and the others go on."""

    @pytest.fixture
    async def damaged(self, replica: MakeReplica) -> Replica:
        """Three orders that wait for their reservation; the row of `bad` makes no sense."""
        one = await replica()
        self.commands = one.commands(
            await one.run(place_order("a-good"), place_order("bad"), place_order("z-good"))
        )
        await one.execute(
            "UPDATE saga SET progress = $1 WHERE order_id = 'bad'",
            json.dumps({"v": 99, "steps": {"teleport": "sent"}}),
        )
        return await replica()  # one that remembers nothing

    async def is_set_aside(self, one: Replica) -> None:
        row = await one.value(
            "SELECT stuck_why FROM saga WHERE stuck_since IS NOT NULL AND timer_at IS NULL"
            " AND NOT waiting"
        )
        assert row is not None
        assert "unreadable" in row
        assert "teleport" in row

    async def test_f21_replies_to_others_go_on(
        self, damaged: Replica, answers: Answers, said: Said
    ) -> None:
        rows = await damaged.run(*map(answers.done, self.commands))
        assert sorted(said(rows)) == [
            "a-good:charge:do",
            "dead letter unreadable_saga",
            "z-good:charge:do",
        ]
        await self.is_set_aside(damaged)

    async def test_f21_its_timer_is_stopped_and_the_others_fire(
        self, damaged: Replica, said: Said
    ) -> None:
        await damaged.execute("UPDATE saga SET timer_at = now()")
        assert await damaged.fire() == 3
        assert await damaged.fire() == 0
        await self.is_set_aside(damaged)

    async def test_f21_commands_of_its_user_are_answered(
        self, damaged: Replica, said: Said
    ) -> None:
        rows = await damaged.run(
            cancel_order("bad"), pay_order("bad"), place_order("bad"), place_order("new")
        )
        assert sorted(said(rows)) == [
            "dead letter temporarily_unavailable",
            "dead letter temporarily_unavailable",
            "dead letter temporarily_unavailable",
            "new:OrderAccepted",
            "new:reserve:do",
            "refused temporarily_unavailable",
            "refused temporarily_unavailable",
            "refused temporarily_unavailable",
        ]
        await self.is_set_aside(damaged)

    async def test_f21_an_invalid_order_under_its_id_is_refused(
        self, damaged: Replica, said: Said
    ) -> None:
        unreadable = Unreadable(
            "invalid",
            "items: none",
            type="PlaceOrder",
            command_id="bad",
            order_id="bad",
            user_id="user_1",
            key="bad",
        )
        async with asyncio.timeout(10):
            rows = await damaged.run(unreadable)
        assert sorted(said(rows)) == ["dead letter invalid", "refused invalid_command"]

    async def test_f21_a_dead_letter_of_its_step_changes_nothing(self, damaged: Replica) -> None:
        assert await damaged.dead_letter(*self.commands[1:2]) == []
        await self.is_set_aside(damaged)

    async def test_f21_one_that_waits_for_admission_holds_up_nobody(
        self, replica: MakeReplica, said: Said
    ) -> None:
        one = await replica(sagas_waiting=1)
        await one.run(place_order("first"))
        await one.run(place_order("bad"))
        await one.execute("UPDATE saga SET progress = '{}' WHERE order_id = 'bad'")
        two = await replica(sagas_waiting=10)
        await two.admit()
        await is_out_of_the_queue(two)

    async def test_f21_mended_it_goes_on(
        self, damaged: Replica, answers: Answers, said: Said
    ) -> None:
        await damaged.execute("UPDATE saga SET timer_at = now()")
        await damaged.fire()
        await damaged.execute(
            "UPDATE saga SET progress = $1, stuck_since = NULL, stuck_why = NULL,"
            " timer_at = now(), waiting = true WHERE order_id = 'bad'",
            json.dumps({"v": 1, "steps": {"reserve": "sent"}}),
        )
        rows = await damaged.run(answers.done(self.commands[1]))
        assert said(rows) == ["bad:charge:do"]


async def is_out_of_the_queue(one: Replica) -> None:
    """What can't be read waits for an operator, and new orders start at once again."""
    assert await one.value("SELECT count(*) FROM saga WHERE stuck_since IS NOT NULL") == 1
    await one.admit()
    assert not one.admission.has_pending
    await one.run(place_order("new"))
    assert (await one.saga("new")).state is SagaState.RESERVING


async def test_deadlocks_are_impossible_by_order(replica: MakeReplica, answers: Answers) -> None:
    """F48: chunks of the same orders in inverse order, replies and timers at once."""
    one, two = await replica(), await replica()
    orders = [f"o-{number:02}" for number in range(40)]
    commands = one.commands(await one.run(*[place_order(order) for order in orders]))
    await one.execute("UPDATE saga SET timer_at = now()")
    replies = [answers.done(command) for command in commands]

    async def deadlocks() -> int:
        return int(
            await one.value(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
        )

    before = await deadlocks()
    await asyncio.gather(one.run(*replies), two.run(*replies[::-1]), one.fire(), two.fire())
    assert await deadlocks() == before
    states = {(await one.saga(order)).state for order in orders}
    assert states == {SagaState.CHARGING}
