"""The saga against pure participants, over a network that loses, repeats and reorders.

`World` is one order, three participants with tombstones, the messages between them and a clock.
Hypothesis drives it by rules and shrinks what breaks; a seeded crowd of the same worlds proves
that each kind of ending and of fault was met often enough.
"""

import random
from collections import Counter
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from order_orchestrator.domain import ENDED, LEGAL, SagaState, StepStatus, waits_for_reply
from order_orchestrator.events import (
    OperatorCancel,
    Retry,
    Settle,
    Start,
    StepDeadLettered,
    TimerFired,
    Transition,
)
from order_orchestrator.saga import STEPS, owed
from order_orchestrator.timing import wake_at
from shared.contracts.base import message_id
from shared.contracts.effects import Effect

OUTCOMES = {"OrderConfirmed", "OrderRejected", "OrderCancelled"}
UNDOABLE = ("reserve", "hold", "charge")


class World:
    """Participants keep one verdict per step, and a tombstone where the undo came first."""

    def __init__(self, order, verdicts):
        self.order = order
        self.verdicts = verdicts  # step -> whether its `do` succeeds
        self.held: dict[str, str] = {}  # step -> done | refused | undone | tombstone | unknown
        self.effects: dict[str, Effect] = {}  # step -> what its undo found, for good
        self.owed_undo = False  # a refund that waits for the gateway's answer
        self.net: list[tuple[datetime, object]] = []  # (sent at, command or reply)
        self.seen: Counter[str] = Counter()
        self._sent = 0
        self._collect()

    def _collect(self):
        for command in self.order.commands[self._sent :]:
            self.net.append((self.order.now, command))
        self._sent = len(self.order.commands)

    def feed(self, event):
        before = self.order.saga
        result = self.order.feed(event)
        after = self.order.saga
        if before.state != after.state:
            self.seen[f"{before.state}>{after.state}"] += 1
        if after.stuck and not before.stuck:
            self.seen["stuck"] += 1
        if isinstance(result, Transition):
            if StepStatus.UNDOING_LATE in after.steps and after.version > before.version:
                self.seen["undone late"] += 1
            if isinstance(event, TimerFired) and after.state is SagaState.COMPENSATING:
                self._given_up(before, after)
        self._collect()
        self.check()
        return result

    def _given_up(self, before, after):
        """No order is undone whose answer was waiting to be read, unless its user cancelled."""
        if before.state is after.state:
            return
        self.seen["given up"] += 1
        if after.ending.state is SagaState.CANCELLED:
            return
        answers = [
            reply
            for sent_at, reply in self.net
            if self._is_reply(reply)
            and reply.command_id.endswith(":do")
            and sent_at <= (before.deadline_at or before.pay_by)
        ]
        assert not answers

    def check(self):
        saga = self.order.saga
        if waits_for_reply(saga):
            assert saga.timer_at is not None
            assert saga.timer_at <= max(wake_at(saga, self.order.limits), self.order.now) + (
                self.order.limits.resend_after * 1.5
            )
        if saga.state in ENDED and owed(saga).steps == ():
            assert saga.timer_at is None
        told = [event.type for event in self.order.events if event.type in OUTCOMES]
        assert len(told) == (saga.told is not None)
        if saga.cancel is not None:
            assert saga.state not in (SagaState.COMPLETING, SagaState.CONFIRMED)

    # --- the network and the participants ---

    def _is_reply(self, message):
        return any(type(message) in (step.done, step.refused, step.undone) for step in STEPS)

    def deliver(self, place, *, keep=False):
        _, message = self.net[place] if keep else self.net.pop(place)
        self.seen["repeated"] += keep
        if self._is_reply(message):
            self.feed(message)
        else:
            self._obey(message)

    def _obey(self, command):
        _, step, direction = message_id(command).split(":")
        answer = self._do(step) if direction == "do" else self._undo(step)
        if answer is not None:
            self.net.append((self.order.now, answer))

    def _do(self, step):
        if step not in self.held:
            unknown = step == "charge" and self.verdicts["slow gateway"]
            verdict = "done" if self.verdicts[step] else "refused"
            self.held[step] = "unknown" if unknown else verdict
        match self.held[step]:
            case "done" | "undone":  # the first verdict, again
                return self.order.done(step)
            case "unknown":
                return None
            case _:
                return self.order.refused(step)

    def _undo(self, step):
        if self.held.get(step) == "unknown":
            self.owed_undo = True
            return None
        if step not in self.effects:
            self.effects[step] = Effect.UNDONE if self.held.get(step) == "done" else Effect.NOTHING
            self.held[step] = "undone" if self.held.get(step) == "done" else "tombstone"
        return self.order.undone(step, self.effects[step])

    def gateway_answers(self):
        if self.held.get("charge") != "unknown":
            return
        self.held["charge"] = "done" if self.verdicts["charge"] else "refused"
        self.net.append((self.order.now, self._do("charge")))
        if self.owed_undo:
            self.net.append((self.order.now, self._undo("charge")))

    def lose(self, place):
        self.net.pop(place)
        self.seen["lost"] += 1

    def poison(self, place):
        """A participant can't fold the command, or the orchestrator can't read the reply."""
        _, message = self.net.pop(place)
        self.seen["poisoned"] += 1
        self.feed(StepDeadLettered(message.command_id, "poison"))

    def tick(self, seconds):
        """Time passes; a timer that is due fires. Replies count as read up to the oldest one
        that is still on its way."""
        self.order.wait(seconds)
        saga = self.order.saga
        if saga.timer_at is not None and saga.timer_at <= self.order.now:
            unread = [sent_at for sent_at, message in self.net if self._is_reply(message)]
            oldest = min(unread, default=None)
            read = self.order.now if oldest is None else oldest - timedelta(microseconds=1)
            self.feed(TimerFired(read, self.order.now))

    def come_to_rest(self):
        """All faults end: messages arrive, the gateway answers, operators retry, users pay."""
        for _ in range(300):
            self.gateway_answers()
            saga = self.order.saga
            if self.net:
                self.deliver(0)
            elif saga.state is SagaState.PENDING:
                self.feed(Start())
            elif saga.stuck is not None:
                self.feed(Retry("ops"))
            elif saga.timer_at is not None:
                self.tick(max((saga.timer_at - self.order.now).total_seconds(), 0) + 1)
            else:
                return
        raise AssertionError(f"no rest: {self.order.saga}")

    def check_at_rest(self):
        order, saga = self.order, self.order.saga
        assert saga.state in ENDED
        assert sum(event.type in OUTCOMES for event in order.events) == 1
        assert len({event.event_id for event in order.events}) == len(order.events)
        versions = [event.version for event in order.events]
        assert versions == sorted(set(versions))
        assert [entry.version for entry in order.history] == list(range(1, saga.version + 1))
        if StepStatus.SETTLED in saga.steps:
            self.seen["settled"] += 1
            return
        assert owed(saga).steps == ()
        live = {step for step, verdict in self.held.items() if verdict == "done"}
        if saga.state is SagaState.CONFIRMED:
            wanted = {
                step.name
                for step, status in zip(STEPS, saga.steps, strict=True)
                if status is StepStatus.DONE
            }
            assert live == wanted >= {"reserve", "commit"}
            assert saga.price.total == 0 or "charge" in live
        else:
            assert live == set()
            self._undone_in_reverse()

    def _undone_in_reverse(self):
        """By what was written: the first undo of each step, and when."""
        first = {}
        for place, name in enumerate(self.order.ids(self.order.commands)):
            first.setdefault(name, place)
        undos = [step for step in UNDOABLE if f"{step}:undo" in first]
        places = [first[f"{step}:undo"] for step in undos]
        assert places == sorted(places, reverse=True)
        for step, verdict in self.held.items():
            if verdict == "undone":
                assert first[f"{step}:do"] < first[f"{step}:undo"]


def shapes():
    return st.fixed_dictionaries(
        {
            "coupon": st.booleans(),
            "later": st.booleans(),
            "start": st.booleans(),
            "discount": st.sampled_from([300, 3_000]),
            "expected_total": st.sampled_from([None, None, 2_700, 1]),
        }
    )


STEP_NAMES = [*[step.name for step in STEPS], "slow gateway"]


@pytest.fixture(scope="module")
def machine(lead):
    class Machine(RuleBasedStateMachine):
        @initialize(shape=shapes(), refuses=st.sampled_from([None, *UNDOABLE]), slow=st.booleans())
        def place(self, shape, refuses, slow):
            verdicts = {name: name != refuses for name in STEP_NAMES} | {"slow gateway": slow}
            self.world = World(lead(**shape), verdicts)

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


def test_a_crowd_meets_every_transition_and_fault(lead):
    seen: Counter[str] = Counter()
    for seed in range(1_500):
        chance = random.Random(seed)
        refuses = chance.choice([None, None, None, *UNDOABLE])
        verdicts = {name: name != refuses for name in STEP_NAMES}
        verdicts["slow gateway"] = chance.random() < 0.2
        world = World(
            lead(
                coupon=chance.random() < 0.6,
                later=chance.random() < 0.4,
                start=chance.random() < 0.8,
                unit_price=chance.choice([1_000, 1_000, 1_000, 0]),
                discount=chance.choice([0, 300, 3_000]),
                expected_total=chance.choice([None] * 6 + [1]),
            ),
            verdicts,
        )
        wander(world, chance)
        world.come_to_rest()
        world.check_at_rest()
        seen[world.order.saga.state] += 1
        seen += world.seen
    taken = {pair for pair in seen if ">" in pair}
    assert taken == {f"{old}>{new}" for old, new in LEGAL if old is not None}
    for outcome in ENDED:
        assert seen[outcome] >= 100, seen
    for fault in ("lost", "repeated", "poisoned", "stuck", "given up"):
        assert seen[fault] >= 100, seen
    assert seen["settled"] >= 10, seen
    assert seen["undone late"] >= 3, seen
    print(seen)
