"""Payments by a gateway that loses answers, repeats itself and forgets, by couriers that freeze and
die, of orders that are given up at any moment.

Hypothesis drives a world by rules and shrinks what breaks; a seeded crowd of the same worlds proves
that each turn of a payment, and each fault, was met often enough.
"""

import random
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from payment.calls import Captured, Contradiction, Declined, Refunded
from shared.contracts.effects import Effect
from shared.contracts.payment import (
    CallState,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefused,
    PaymentState,
)

ORDERS = ["o1", "o2"]
FATES = ["answered", "answer lost", "lost", "time-out", "unreachable", "busy"]
PAUSES = [0.6, 1.0, 4.0, 8.0, 11.0, 20.0]
FORGOTTEN = 301.0
LIES = [Captured("ch_x", 51, "KRW"), Captured("ch_x", 60, "KRW"), Captured("ch_x", 60, "USD"),
        Declined("card_declined"), Refunded(51, "KRW"), Refunded(60, "KRW"), Refunded(1, "KRW"),
        Contradiction("422")]  # fmt: skip


def tick(world, seconds):
    """Time passes. What the provider has taken it books within the time that it keeps keys."""
    if seconds >= FORGOTTEN:
        world.provider.work(world.now)
        world.seen["keys forgotten"] += 1
    world.now += timedelta(seconds=seconds)


def come_to_rest(world):
    """All faults end: requests arrive, callbacks too, and couriers do what is due."""
    one = world.couriers[0]
    for _ in range(1_000):
        world.provider.work(world.now)
        while world.provider.callbacks:
            world.call_back(0, one)
        for courier in world.couriers:
            while courier.errands:
                world.go(courier, 0)
        while world.net:
            world.carry(0)
        for courier in world.couriers:
            world.settle(courier)
        world.claim(one)
        if not one.errands:
            due = [call.next_at for call in world.calls.values() if call.next_at]
            if not due:
                return
            world.now = max(world.now, min(due))
    raise AssertionError(f"no rest: {world.calls}")


def check_at_rest(world):
    """Both books agree, nothing is held, and what was said is so."""
    doubtful = set(world.lied)
    for call in world.calls.values():
        if call.state is CallState.QUARANTINED:
            doubtful.add(call.order_id)
            wrong = world.provider.plans[call.order_id].outcome == "wrong"
            assert wrong or "keys forgotten" in world.seen or call.order_id in world.lied
    for call in world.calls.values():
        if call.state is CallState.WATCHED and call.order_id not in doubtful:
            assert world.payments[call.order_id].state is PaymentState.TOMBSTONE
        elif call.order_id not in doubtful:
            assert call.state in (CallState.SUCCEEDED, CallState.DECLINED, CallState.VOID)
    for order_id, payment in world.payments.items():
        if order_id in doubtful or is_forgotten(world, payment):
            world.seen["doubtful"] += 1
            continue
        assert payment.state not in (PaymentState.PENDING, PaymentState.CANCELLING)
        by_gateway = payment.charge.by_gateway if payment.charge else 0
        kept = by_gateway if payment.captured > payment.refunded else 0
        assert world.provider.balance(order_id) == kept
        check_said(world, payment)
    for command in world.asked.values():
        if command.order_id not in doubtful:
            world.command(world.couriers[0], command)
            assert command.command_id in world.said


def is_forgotten(world, payment):
    """It was given up, nobody looked for it while its key was known, and nobody was told of it."""
    charge = world.calls.get(f"payment:{payment.order_id}")
    is_unheard = world.provider.is_mute and "keys forgotten" in world.seen
    return is_unheard and charge is not None and charge.state is CallState.WATCHED


def check_said(world, payment):
    charge = world.said.get(f"{payment.order_id}:charge:do")
    refund = world.said.get(f"{payment.order_id}:charge:undo")
    assert (refund is not None) == (f"{payment.order_id}:charge:undo" in world.asked)
    if isinstance(charge, PaymentRefused) or (refund and refund.effect is Effect.NOTHING):
        assert world.provider.balance(payment.order_id) == 0
    if isinstance(charge, PaymentCharged):
        assert len(world.provider.captures(payment.order_id)) == 1
    if isinstance(refund, PaymentRefunded) and refund.effect is Effect.UNDONE:
        assert payment.refunded == payment.captured > 0
        assert not isinstance(charge, PaymentRefused)


def plans(plan):
    outcomes = st.sampled_from(["captured", "captured", "declined", "wrong"])
    return st.fixed_dictionaries({one: st.builds(plan, outcomes, st.booleans()) for one in ORDERS})


@pytest.fixture(scope="module")
def machine(world, plan):
    couriers = st.integers(0, 2)
    orders = st.sampled_from(ORDERS)
    which = st.sampled_from([slice(0, 1), slice(1, 2), slice(0, 2)])

    class Machine(RuleBasedStateMachine):
        @initialize(plans=plans(plan), is_mute=st.booleans())
        def open(self, plans, is_mute):
            self.world = world(plans, is_mute=is_mute)

        def courier(self, number):
            return self.world.couriers[number]

        @rule(number=couriers, order=orders, points=st.sampled_from([0, 9]), which=which,
              free=st.integers(0, 1), dies=st.booleans())  # fmt: skip
        def command(self, number, order, points, which, free, dies):
            both = self.world.charge(order, points), self.world.refund(order)
            self.world.command(self.courier(number), *both[which], free=free, dies=dies)

        @rule(number=couriers, most=st.integers(1, 3))
        def claim(self, number, most):
            self.world.claim(self.courier(number), most)

        @rule(number=couriers, data=st.data())
        def go(self, number, data):
            courier = self.courier(number)
            if courier.errands:
                self.world.go(courier, data.draw(st.integers(0, len(courier.errands) - 1)))

        @precondition(lambda self: self.world.net)
        @rule(data=st.data(), how=st.sampled_from([*FATES, "taken"]))
        def carry(self, data, how):
            self.world.carry(data.draw(st.integers(0, len(self.world.net) - 1)), how)

        @rule()
        def work(self):
            self.world.provider.work(self.world.now)

        @precondition(lambda self: self.world.provider.callbacks)
        @rule(data=st.data(), number=couriers, keep=st.booleans())
        def call_back(self, data, number, keep):
            place = data.draw(st.integers(0, len(self.world.provider.callbacks) - 1))
            self.world.call_back(place, self.courier(number), keep=keep)

        @rule(number=couriers, most=st.integers(1, 3), free=st.integers(0, 1),
              fails=st.sampled_from([False, False, True]), dies=st.booleans())  # fmt: skip
        def settle(self, number, most, free, fails, dies):
            self.world.settle(self.courier(number), most, free=free, fails=fails, dies=dies)

        @precondition(lambda self: self.world.calls)
        @rule(number=couriers, order=orders, answer=st.sampled_from(LIES))
        def lie(self, number, order, answer):
            self.world.lie(self.courier(number), order, answer)

        @rule(number=couriers)
        def die(self, number):
            self.world.die(self.courier(number))

        @rule(seconds=st.sampled_from([*PAUSES, FORGOTTEN]))
        def tick(self, seconds):
            tick(self.world, seconds)

        def teardown(self):
            if hasattr(self, "world"):
                come_to_rest(self.world)
                check_at_rest(self.world)

    return Machine


def test_f24_to_f30_no_schedule_breaks_a_payment(machine):
    case = machine.TestCase
    case.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
    case("runTest").runTest()


class Mood(NamedTuple):
    """What a walk is prone to."""

    late: int
    """How often the provider books what it has taken some time afterwards."""
    is_mute: bool
    """No callback arrives."""
    forgets: float
    lies: int
    straggles: bool
    """What a courier has given up waiting for arrives late, or never."""


def mood(seed):
    return Mood((0, 1, 12)[seed % 3], seed % 5 == 0, 0.1 if seed % 7 else 4.0,
                5 * (seed % 8 == 7), seed % 2 == 0)  # fmt: skip


def wander(world, chance, mood):
    """A walk that mostly goes right, so that it meets the late turns as well."""
    fates = [*FATES, *["answered"] * 6, *["taken"] * mood.late, *["time-out"] * 4 * mood.straggles]
    for _ in range(chance.randrange(20, 140)):
        courier = chance.choice(world.couriers)
        order = chance.choice(ORDERS)
        free, dies = chance.randrange(2), chance.random() < 0.05
        match chance.choices(
            ["charge", "refund", "both", "claim", "go", "carry", "work", "call back", "settle",
             "lie", "die", "tick", "forget"],
            [4, 6 if mood.straggles else 3, 0.3, 14, 25, 25, 0.3 if mood.late else 4, 6, 25,
             mood.lies, 0.5, 12, mood.forgets],
        )[0]:  # fmt: skip
            case "charge":
                command = world.charge(order, chance.choice([0, 9]))
                world.command(courier, command, free=free, dies=dies)
            case "refund":
                world.command(courier, world.refund(order), free=free, dies=dies)
            case "both":
                world.command(courier, world.charge(order), world.refund(order), free=free)
            case "claim":
                world.claim(courier, chance.randint(1, 3))
            case "go" if busy := [one for one in world.couriers if one.errands]:
                courier = chance.choice(busy)
                world.go(courier, chance.randrange(len(courier.errands)))
            case "carry" if world.net:
                place = chance.randrange(len(world.net))
                if world.net[place].courier or not mood.straggles or chance.random() < 0.2:
                    world.carry(place, chance.choice(fates))
            case "work":
                world.provider.work(world.now)
            case "call back" if world.provider.callbacks:
                place = chance.randrange(len(world.provider.callbacks))
                world.call_back(place, courier, keep=chance.random() < 0.3)
            case "settle" if busy := [one for one in world.couriers if one.inflow]:
                courier = chance.choice(busy)
                fails = chance.random() < 0.05
                world.settle(courier, chance.randint(1, 5), free=free, fails=fails, dies=dies)
            case "lie":
                world.lie(courier, order, chance.choice(LIES))
            case "die":
                world.die(courier)
            case "tick":
                tick(world, chance.choice(PAUSES[:3] if mood.straggles else PAUSES))
            case "forget":
                tick(world, FORGOTTEN)


def crowd(world, plan, size):
    seen: Counter[str] = Counter()
    for seed in range(size):
        chance = random.Random(seed)
        outcomes = ["captured"] * 5 + ["declined"] * 2 + ["wrong"]
        fates = {one: plan(chance.choice(outcomes), chance.random() < 0.3) for one in ORDERS}
        walked = world(fates, is_mute=mood(seed).is_mute)
        try:
            wander(walked, chance, mood(seed))
            come_to_rest(walked)
            check_at_rest(walked)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        seen += walked.seen
    return seen


LEAST = {
    "charge SUCCEEDED": 300, "charge DECLINED": 100, "charge ABSENT": 200, "charge VOID": 50,
    "charge UNKNOWN": 200, "charge QUARANTINED": 50, "refund SUCCEEDED": 100, "refund VOID": 100,
    "refund UNKNOWN": 50, "refund ABSENT": 30, "refund QUARANTINED": 10,
    "ask charge": 500, "ask refund": 50, "send charge": 500, "send refund": 100, "sent again": 200,
    "lease ran out": 300, "errand dropped": 200, "died with errands": 40, "stale news": 200,
    "callback again": 50, "late capture": 15, "void at once": 5, "keys forgotten": 50, "lie": 200,
    "answered: Captured": 200, "answered: Declined": 50, "answered: Refunded": 50,
    "answered: Absent": 500, "answered: NotTaken": 20, "answered: Silent": 100,
    "answer lost: Silent": 50, "lost: Silent": 50, "time-out: Silent": 50, "taken: Silent": 50,
    "unreachable: NotTaken": 50, "busy: NotTaken": 50,
    "PaymentCharged": 300, "PaymentRefused": 300, "PaymentRefunded": 500,
}  # fmt: skip
"""Where a walk may turn, and how often the crowd must do so at least."""


def test_f24_to_f30_a_crowd_meets_every_turn_and_fault(world, plan, legal):
    seen = crowd(world, plan, 2_000)
    for before, afters in legal.items():
        for after in afters:
            assert seen[f"{before}>{after}"] >= 15, seen
    for turn, least in LEAST.items():
        assert seen[turn] >= least, (turn, seen)
