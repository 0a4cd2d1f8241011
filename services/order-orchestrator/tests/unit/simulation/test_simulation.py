"""The saga against pure participants, over a network that loses, repeats and reorders.

Hypothesis drives a world by rules and shrinks what breaks; a seeded crowd of the same worlds
proves that each kind of ending and of fault was met often enough.
"""

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from order_orchestrator.domain import ENDED, LEGAL
from order_orchestrator.events import OperatorCancel, Retry, Settle, Start
from order_orchestrator.saga import STEPS
from shared.contracts.order_parts import PaymentMethod

NEVER = timedelta.max
UNDOABLE = [step.name for step in STEPS if step.undo]


def shapes():
    return st.fixed_dictionaries(
        {
            "coupon": st.booleans(),
            "later": st.booleans(),
            "start": st.booleans(),
            "discount": st.sampled_from([300, 3_000]),
            "expected_total": st.sampled_from([None, None, 2_700, 1]),
            "method": st.sampled_from(PaymentMethod),
        }
    )


STEP_NAMES = [step.name for step in STEPS]
SLOW_S = (None, 30, 80, 120, 179, 181, 400)
"""How long the gateway takes; None: it answers at once. 60 and 120 more are waited for."""


def answers_after(seconds):
    return None if seconds is None else timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def machine(lead, world):
    class Machine(RuleBasedStateMachine):
        @initialize(
            shape=shapes(),
            refuses=st.sampled_from([None, *UNDOABLE]),
            slow=st.sampled_from([*map(answers_after, SLOW_S), NEVER]),
        )
        def place(self, shape, refuses, slow):
            verdicts = {name: name != refuses for name in STEP_NAMES}
            self.world = world(lead(**shape), verdicts, slow)

        @rule()
        def start(self):
            self.world.feed(Start())

        @precondition(lambda self: self.world.net)
        @rule(data=st.data(), keep=st.booleans())
        def deliver(self, data, keep):
            self.world.deliver(data.draw(st.integers(0, len(self.world.net) - 1)), keep=keep)

        @precondition(lambda self: self.world.net)
        @rule(data=st.data())
        def lose(self, data):
            self.world.lose(data.draw(st.integers(0, len(self.world.net) - 1)))

        @precondition(lambda self: self.world.net)
        @rule(data=st.data())
        def poison(self, data):
            self.world.poison(data.draw(st.integers(0, len(self.world.net) - 1)))

        @rule(seconds=st.sampled_from([0.1, 4, 8, 61, 1_000]))
        def tick(self, seconds):
            self.world.tick(seconds)

        @rule()
        def gateway(self):
            self.world.gateway_answers()

        @rule(number=st.integers(1, 2))
        def pay(self, number):
            self.world.feed(self.world.order.pay(f"pay-{number}"))

        @rule(operator=st.booleans())
        def cancel(self, operator):
            self.world.feed(OperatorCancel("ops") if operator else self.world.order.cancel())

        @rule()
        def retry(self):
            self.world.feed(Retry("ops"))

        @rule(outcome=st.sampled_from(sorted(ENDED)))
        def settle(self, outcome):
            self.world.feed(Settle("ops", outcome, "by hand"))

        def teardown(self):
            if hasattr(self, "world"):
                self.world.come_to_rest()
                self.world.check_at_rest()

    return Machine


def test_no_sequence_of_events_breaks_the_saga(machine):
    case = machine.TestCase
    case.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
    case("runTest").runTest()


def wander(world, chance):
    """A walk that mostly goes right, so that it meets the late states as well."""
    for _ in range(chance.randrange(5, 60)):
        if world.order.saga.stuck is not None and chance.random() < 0.2:
            world.feed(Settle("ops", chance.choice(sorted(ENDED)), "by hand"))
        match chance.choices(
            [
                "deliver",
                "repeat",
                "lose",
                "poison",
                "tick",
                "pay",
                "cancel",
                "settle",
                "retry",
                "start",
                "gateway",
            ],
            [50, 8, 8, 2, 18, 5, 1, 2, 1, 5, 4],
        )[0]:
            case "deliver" | "repeat" | "lose" | "poison" as act if world.net:
                place = chance.randrange(len(world.net))
                {
                    "deliver": world.deliver,
                    "repeat": lambda place: world.deliver(place, keep=True),
                    "lose": world.lose,
                    "poison": world.poison,
                }[act](place)
            case "tick":
                world.tick(chance.choice([0.1, 1, 6, 20, 61, 400]))
            case "pay":
                world.feed(world.order.pay(f"pay-{chance.randrange(2)}"))
            case "cancel":
                world.feed(chance.choice([OperatorCancel("ops"), world.order.cancel()]))
            case "settle":
                world.feed(Settle("ops", chance.choice(sorted(ENDED)), "by hand"))
            case "retry":
                world.feed(Retry("ops"))
            case "start":
                world.feed(Start())
            case "gateway":
                world.gateway_answers()


def test_a_crowd_meets_every_transition_and_fault(lead, world):
    seen: Counter[str] = Counter()
    for seed in range(1_500):
        chance = random.Random(seed)
        refuses = chance.choice([None, None, None, *UNDOABLE])
        verdicts = {name: name != refuses for name in STEP_NAMES}
        by_gateway = chance.random() < 0.4
        walked = world(
            lead(
                coupon=chance.random() < 0.6,
                later=chance.random() < 0.4,
                start=chance.random() < 0.8,
                unit_price=chance.choice([1_000, 1_000, 1_000, 0]),
                discount=chance.choice([0, 300, 3_000]),
                expected_total=chance.choice([None] * 6 + [1]),
                method=PaymentMethod.GATEWAY if by_gateway else PaymentMethod.WALLET,
            ),
            verdicts,
            chance.choice([*map(answers_after, SLOW_S), NEVER]),
        )
        wander(walked, chance)
        walked.come_to_rest()
        walked.check_at_rest()
        seen[walked.order.saga.state] += 1
        seen += walked.seen
    taken = {pair for pair in seen if ">" in pair}
    assert taken == {f"{old}>{new}" for old, new in LEGAL if old is not None}
    for outcome in ENDED:
        assert seen[outcome] >= 100, seen
    for fault in ("lost", "repeated", "poisoned", "stuck", "given up"):
        assert seen[fault] >= 100, seen
    assert seen["settled"] >= 10, seen
    assert seen["undone late"] >= 3, seen
    for answer in (
        "answered in the window",
        "confirmed in the window",
        "given up past the window",
        "answered after it was given up",
        "never answered",
        "charged after the end",
    ):
        assert seen[answer] >= 10, (answer, seen)
